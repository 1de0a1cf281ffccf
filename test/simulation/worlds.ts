// What a bundle with a planted fault gives: stories, and worlds to run them in.
export { KEPT_STORIES } from './kept-stories.ts';
export { storyOf } from './story.ts';
export { runWorld } from './world.ts';
