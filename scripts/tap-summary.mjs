// Reads the last summary comment of a TAP file, names what was skipped and failed, and prints the closing line.
import { readFileSync } from 'node:fs';

const [file] = process.argv.slice(2);
if (!file) throw new Error('usage: tap-summary.mjs FILE');
const text = readFileSync(file, 'utf8');
const summaries = [...text.matchAll(/^# (\{ total: .*\})$/gm)];
const last = summaries.at(-1)?.[1] ?? '';
const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(last)?.[1] ?? 0);
const total = count('total');
const failed = count('fail');
const skipped = count('skip') + count('todo');
for (const [line] of text.matchAll(/^ *ok .*# (SKIP|TODO).*$/gm)) console.log(line.trim());
if (total === 0) console.log('No test ran');
console.log(`${total - failed - skipped} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = failed > 0 || total === 0 ? 1 : 0;
