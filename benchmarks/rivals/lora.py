"""OPPU's stage 2 as its users run it: a fresh peft LoRA per user, in the Hugging Face Trainer."""

from __future__ import annotations

from peft import LoraConfig, get_peft_model
from stage import Stage, base_model, collate, examples, training_arguments
from transformers import Trainer


def main() -> None:
    """Train and save every user's adapter."""
    stage = Stage.given()
    model = base_model(stage)
    users = stage.begin()
    for number, rows in enumerate(users.values()):
        with stage.user(len(rows)):
            config = LoraConfig(
                r=8, lora_alpha=8, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
            )
            personal = get_peft_model(model, config)
            trainer = Trainer(
                model=personal,
                args=training_arguments(stage, learning_rate=1e-4),
                train_dataset=examples(rows),
                data_collator=collate,
            )
            stage.losses.append(trainer.train().training_loss)
            personal.save_pretrained(f"{stage.out}/{number}")
            model = personal.unload()
    stage.end()


if __name__ == "__main__":
    main()
