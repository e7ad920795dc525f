"""pyreft's LoReFT per user, in its own environment and with its own trainer.

pyreft 0.1.0 is older than transformers 5, whose Trainer hands ``num_items_in_batch`` to ``compute_loss``; the subclass
below drops it and changes nothing else. Its causal trainer shuffles rows of all lengths together; the class above it
groups by length like the others, which is faster, and so it is used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyreft import LoreftIntervention, ReftConfig, get_intervention_locations, get_reft_model
from pyreft.reft_trainer import ReftTrainer
from stage import Stage, base_model, collate, examples, training_arguments


class Trainer(ReftTrainer):
    """pyreft's trainer, on transformers 5."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        return super().compute_loss(model, inputs, return_outputs)


def main() -> None:
    """Train and save every user's interventions."""
    stage = Stage.given()
    model = base_model(stage)
    users = stage.begin()

    def with_places(batch: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        places = [
            get_intervention_locations(
                last_position=row["prompt_length"],
                positions=stage.positions if "+" in stage.positions else f"f0+{stage.positions}",
                num_interventions=len(stage.layers),
                share_weights=True,
            )
            for row in batch
        ]
        return {**collate(batch), "intervention_locations": torch.tensor(places)}

    for number, rows in enumerate(users.values()):
        with stage.user(len(rows)):
            personal = get_reft_model(
                model,
                ReftConfig(
                    representations=[
                        {
                            "layer": layer,
                            "component": "block_output",
                            "low_rank_dimension": stage.rank,
                            "intervention": LoreftIntervention(
                                embed_dim=model.config.hidden_size,
                                low_rank_dimension=stage.rank,
                                dtype=stage.torch_dtype,
                            ),
                        }
                        for layer in stage.layers
                    ]
                ),
            )
            trainer = Trainer(
                model=personal,
                args=training_arguments(stage, learning_rate=1e-3),
                train_dataset=examples(rows),
                data_collator=with_places,
            )
            stage.losses.append(trainer.train().training_loss)
            personal.save(save_directory=f"{stage.out}/{number}")
    stage.end()


if __name__ == "__main__":
    main()
