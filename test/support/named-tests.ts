// Documents that say which test proves what: `folder/file.test.ts`: “title”. A title that is made in a loop is written with
// … where its variable part stands.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface NamedTest {
  /** Below test/, or below clients/ for what is no TypeScript. */
  readonly file: string;
  readonly title: string;
}

/** The tests that a piece of a document names, in its order. */
export const namedTestsIn = (text: string): NamedTest[] =>
  [...text.matchAll(/`([\w./-]+\.test\.ts)`: “([^”]+)”/g)].map(([, file = '', title = '']) => ({ file, title }));

/** Why a named test is none; `null`: it is there. */
export function whyNoTest({ file, title }: NamedTest): string | null {
  const path = join('test', file);
  if (!existsSync(path)) return `there is no ${path}`;
  const quoted = title
    .split('…')
    .map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
    .join('(?:…|\\$\\{[^}]*\\})');
  const text = readFileSync(path, 'utf8').replaceAll("\\'", "'");
  return new RegExp(`['"\`]${quoted}['"\`]`).test(text) ? null : `${path} has no test “${title}”`;
}

/** The rows of every table of a Markdown document, cells trimmed, without headings and the lines below them. */
export function tableRows(markdown: string): string[][] {
  const lines = markdown.split('\n').map((line) => line.trim());
  return lines.flatMap((line, index) => {
    const isHeading = /^\|[ :|-]+\|$/.test(lines[index + 1] ?? '');
    if (!line.startsWith('|') || isHeading || /^\|[ :|-]+\|$/.test(line)) return [];
    return [
      line
        .slice(1, -1)
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim()),
    ];
  });
}
