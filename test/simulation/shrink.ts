// Makes a failing story short: leaves out acts, then replicas' and loads' worth of world, as long as the same rule is
// broken (ddmin over the list of acts). What is left is what it takes.
import type { Story } from './story.ts';
import { type Outcome, runWorld } from './world.ts';

/** A shorter story that breaks the same rule, and its run. `tries` bounds how often a world is run for it. */
export async function shrink(story: Story, failed: Outcome, tries = 120): Promise<{ story: Story; outcome: Outcome }> {
  const rule = failed.violation?.rule;
  let best = {
    story: { ...story, lengthMs: Math.ceil((failed.violation?.atMs ?? story.lengthMs) + 1) },
    outcome: failed,
  };
  let left = tries;

  /** Takes a story that still fails. */
  async function isStillBroken(next: Story): Promise<boolean> {
    if (left <= 0) return false;
    left -= 1;
    const outcome = await runWorld(next);
    const { violation } = outcome;
    if (!violation || violation.rule !== rule) return false;
    best = { story: { ...next, lengthMs: Math.ceil(violation.atMs + 1) }, outcome };
    return true;
  }

  // What is after the failure has no part in it.
  await isStillBroken({ ...best.story, acts: story.acts.filter(({ atMs }) => atMs <= best.story.lengthMs) });
  for (let parts = 2; best.story.acts.length > 0 && left > 0; ) {
    const { acts } = best.story;
    const size = Math.ceil(acts.length / parts);
    let hasShrunk = false;
    for (let from = 0; from < acts.length && left > 0; from += size) {
      const rest = [...acts.slice(0, from), ...acts.slice(from + size)];
      if (await isStillBroken({ ...best.story, acts: rest })) {
        hasShrunk = true;
        break;
      }
    }
    if (hasShrunk) parts = Math.max(2, parts - 1);
    else if (size === 1) break;
    else parts = Math.min(best.story.acts.length, parts * 2);
  }
  if (best.story.replicas > 1) await isStillBroken({ ...best.story, replicas: 1 });
  for (let index = best.story.workloads.length - 1; index >= 0 && best.story.workloads.length > 1; index--) {
    const workloads = best.story.workloads.filter((_, at) => at !== index);
    await isStillBroken({ ...best.story, workloads });
  }
  return best;
}
