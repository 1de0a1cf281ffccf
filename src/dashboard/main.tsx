// The page's start: one source of what is known, one tree that shows it.
import { render } from 'preact';
import { App } from './app.tsx';
import { Live } from './live.ts';
import './styles/base.css';
import './styles/top.css';
import './styles/banner.css';
import './styles/nodes.css';
import './styles/panels.css';

const root = document.getElementById('app');
if (!root) throw new Error('Cannot show the dashboard: its page has no element "app"');
const live = new Live();
root.replaceChildren();
render(<App live={live} />, root);
live.connect();
// A laptop that wakes, a cable that is back: not after the back-off, now.
window.addEventListener('online', () => live.connect());
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && !live.seen.contact.isOpen) live.connect();
});
