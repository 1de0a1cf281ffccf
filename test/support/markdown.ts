// The project's documents as a reader sees them: their fenced blocks, code within sentences, headings and links.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

export interface Block {
  /** `sh`, `yaml`, … as after the fence; empty where nothing is. */
  readonly language: string;
  readonly text: string;
  /** Of its first line of text, from 1. */
  readonly line: number;
  /** The heading of the second level that it stands under. */
  readonly section: string;
}

export interface Link {
  readonly target: string;
  readonly line: number;
}

export interface MarkdownDocument {
  /** From the project's folder. */
  readonly path: string;
  readonly blocks: readonly Block[];
  /** `code` within sentences. */
  readonly spans: readonly { readonly text: string; readonly line: number }[];
  readonly links: readonly Link[];
  /** What can be linked to by `#…`. */
  readonly anchors: ReadonlySet<string>;
}

const FENCE = /^( *)(`{3,})(\S*)/;

/** Every Markdown file that is part of the project. */
export function markdownFiles(): string[] {
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], {
    encoding: 'utf8',
  });
  return files.split('\n').filter((path) => path !== '');
}

export function readDocument(path: string, text = readFileSync(path, 'utf8')): MarkdownDocument {
  const blocks: Block[] = [];
  const prose: string[] = [];
  let section = '';
  let open: { indent: number; fence: string; language: string; line: number; lines: string[] } | null = null;
  for (const [index, line] of text.split('\n').entries()) {
    const [, indent = '', fence = '', language = ''] = FENCE.exec(line) ?? [];
    if (open === null && fence !== '') {
      open = { indent: indent.length, fence, language, line: index + 2, lines: [] };
    } else if (open !== null && fence === open.fence && language === '') {
      blocks.push({ language: open.language, text: open.lines.join('\n'), line: open.line, section });
      open = null;
    } else if (open !== null) {
      open.lines.push(line.slice(Math.min(open.indent, line.search(/\S|$/))));
    }
    if (open === null && fence === '' && line.startsWith('## ')) section = line.slice(3);
    prose.push(open !== null || fence !== '' ? '' : line);
  }
  if (open !== null) throw new Error(`${path}:${open.line}: a block that never ends`);

  const whole = prose.join('\n');
  const lineAt = (offset: number): number => whole.slice(0, offset).split('\n').length;
  const spans = [...whole.matchAll(/(?<!`)`([^`]+)`(?!`)/g)].map(({ 1: text = '', index }) => ({
    text: text.replace(/\s+/g, ' '),
    line: lineAt(index),
  }));
  // Code is no link, whatever brackets it has.
  const bare = whole.replace(/(?<!`)`[^`]+`(?!`)/g, (code) => code.replace(/[^\n]/g, 'x'));
  const links = [...bare.matchAll(/\]\(\s*<?([^)\s>]+)>?\s*\)/g)].map(({ 1: target = '', index }) => ({
    target,
    line: lineAt(index),
  }));
  return { path, blocks, spans, links, anchors: anchorsOf(prose) };
}

/** As GitHub makes them of headings: in lower case, without punctuation, `-` for spaces, numbered when they repeat. */
function anchorsOf(lines: readonly string[]): Set<string> {
  const anchors = new Set<string>();
  for (const line of lines) {
    for (const [, id = ''] of line.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(id);
    const heading = /^#{1,6} +(.*?) *#*$/.exec(line)?.[1];
    if (heading === undefined) continue;
    const slug = heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
      .replaceAll(' ', '-');
    let anchor = slug;
    for (let count = 1; anchors.has(anchor); count++) anchor = `${slug}-${count}`;
    anchors.add(anchor);
  }
  return anchors;
}
