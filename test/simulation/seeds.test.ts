// What the simulation found and what was mended, kept as stories: none of them breaks a rule any more. Each breaks one
// where its fault is planted again, which `npm run simulate -- --planted` shows.
import t from 'tap';
import { KEPT_STORIES } from './kept-stories.ts';
import { describeFailure } from './report.ts';
import { runWorld } from './world.ts';

for (const [name, story] of Object.entries(KEPT_STORIES)) {
  t.test(`runWorld() breaks no rule in the story of ${name}`, async (t) => {
    const outcome = await runWorld(story);
    t.equal(outcome.violation, null, describeFailure(story, outcome).join('\n') || 'none');
    t.ok((outcome.counts['leases granted'] ?? 0) > 0, 'it was under load');
    for (const { kind } of story.acts) t.ok(outcome.counts[`act ${kind}`], `${kind} came up`);
  });
}
