"""A batching policy of one's own: try it with ``-s serving.batching=my_policy.py:LeastWorkFirst``."""

from clustersim.policies import ALL, BatchingPolicy, Step, blocks_for


class LeastWorkFirst(BatchingPolicy):
    """Decode everything; beside it, prefill the prompts with the least work left that fit, whole."""

    max_batch: int = 128

    def next_step(self, view):
        step, free = Step(decode=ALL), view.free_kv_tokens // view.block_tokens
        for seq in sorted(view.waiting, key=lambda seq: (seq.prefill_left, seq.id)):
            need = blocks_for(seq.prefill_left or seq.context_tokens + 1, view.block_tokens)
            if need > free or len(view.running) + len(step.prefill) >= self.max_batch:
                break
            step.prefill[seq], free = seq.prefill_left, free - need
        return step
