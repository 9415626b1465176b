"""What a run asks of the Hub before it begins: whether it may push, and a checkpoint that another machine pushed."""

from huggingface_hub import HfApi
from transformers.trainer_utils import HubStrategy

from ..hub import CardOptions
from ..hub.push import check_base, fetch_checkpoint, prepare_repository
from ..processing import InputError
from ..utils.public_names import looks_like_id
from .recipe import LlavaSTTrainingConfig, Recipe
from .stages import StagePlan
from .trainer import find_last_checkpoint


def check_push(recipe: Recipe, plan: StagePlan) -> None:
    """Raise `InputError`, before anything is trained, where what comes out could not be pushed."""
    args, base = recipe.training, recipe.model.model_name_or_path
    if not args.push_to_hub or args.process_index > 0:
        return
    if plan.uses_peft and args.hub_base_model is None and not looks_like_id(base):
        raise InputError(
            f"push_to_hub is true, but the adapter's base is the folder {base!r}, which nobody else has: push that "
            "model first, and give its repository as hub_base_model."
        )
    CardOptions(args.hub_model_id, args.hub_base_model, args.hub_license)  # checks them
    public, api = args.hub_private_repo is False, HfApi(token=args.hub_token)
    if plan.uses_peft:
        check_base(args.hub_base_model or base, None, public, api)
    # Makes the repository, so that a missing login or right is known now.
    prepare_repository(args.hub_model_id, "model", public, api)


def fetch_pushed_checkpoint(args: LlavaSTTrainingConfig) -> None:
    """Fetch the checkpoint that another machine pushed, where there is none here and the run asks for one."""
    asks = str(args.resume_from_checkpoint).lower() == "true" and find_last_checkpoint(args.output_dir) is None
    if not asks or not args.push_to_hub or args.hub_strategy != HubStrategy.CHECKPOINT:
        return
    with args.main_process_first(desc="fetch the checkpoint from the Hub"):
        if args.local_process_index == 0:
            fetch_checkpoint(args.hub_model_id, args.output_dir, HfApi(token=args.hub_token))
