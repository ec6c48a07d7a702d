"""A batching policy of one's own: try it with ``-s serving.batching=my_policy.py:LeastWorkFirst``."""

from clustersim.policies import ALL, BatchingPolicy, Step


class LeastWorkFirst(BatchingPolicy):
    """Prefill the shortest prompts that fit, whole and alone; decode when none is left to admit."""

    max_batch: int = 128

    def next_step(self, view):
        step, free = Step(), view.free_kv_tokens
        for seq in sorted(view.waiting, key=lambda s: s.prompt_tokens):
            if len(view.running) + len(step.prefill) < self.max_batch and seq.prompt_tokens < free:
                step.prefill[seq] = seq.prompt_tokens
                free -= seq.prompt_tokens + view.block_tokens
        return step if step.prefill else Step(decode=ALL)
