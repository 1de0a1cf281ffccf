// Shell text of a document, taken apart as far as its check needs: into the commands that a reader would paste one after
// the other, and each into the words of every program that it calls.

export interface PastedCommand {
  /** Without the comment at its end. */
  readonly text: string;
  readonly comment: string;
  /** Of the document, from 1. */
  readonly line: number;
}

/** One after the other, with the lines that belong to each: after a backslash, within quotes, up to a heredoc's end. */
export function commandsOf(text: string, firstLine = 1): PastedCommand[] {
  const commands: PastedCommand[] = [];
  const lines = text.split('\n');
  for (let index = 0; index < lines.length; index++) {
    const line = firstLine + index;
    let { code, comment, isOpen } = withoutComment(lines[index] ?? '');
    while (isOpen && index + 1 < lines.length) {
      const next = withoutComment(`${code}\n${lines[++index]}`);
      ({ code, comment, isOpen } = next);
    }
    const end = /<<-?\s*(['"]?)(\w+)\1/.exec(code)?.[2];
    if (end !== undefined) {
      do code += `\n${lines[++index]}`;
      while (lines[index] !== end && index < lines.length);
    }
    if (code.trim() !== '') commands.push({ text: code.trim(), comment, line });
  }
  return commands;
}

function withoutComment(line: string): { code: string; comment: string; isOpen: boolean } {
  let quote = '';
  for (let at = 0; at < line.length; at++) {
    const char = line[at] ?? '';
    if (char === '\\' && quote !== "'") at++;
    else if (quote !== '') quote = char === quote ? '' : quote;
    else if (char === "'" || char === '"') quote = char;
    else if (char === '#' && /^$|\s/.test(line[at - 1] ?? '')) {
      return { code: line.slice(0, at), comment: line.slice(at + 1).trim(), isOpen: false };
    }
  }
  return { code: line, comment: '', isOpen: quote !== '' || line.endsWith('\\') };
}

/**
 * The words of each program that is called: split at `;`, `&`, `|` and parentheses, those within `$(…)` as well, without
 * quotes, redirections to files, and what is set before it (`A=b program`). Expansions stay as they are written.
 */
export function callsOf(text: string): string[][] {
  const calls: string[][] = [];
  let words: string[] = [];
  let word: string | null = null;
  let quote = '';
  const endWord = (): void => {
    if (word !== null) words.push(word);
    word = null;
  };
  const endCall = (): void => {
    endWord();
    calls.push(words);
    words = [];
  };
  const code = text.replace(/(<<-?\s*['"]?(\w+)['"]?)\n[\s\S]*?\n\2$/gm, '$1');
  for (let at = 0; at < code.length; at++) {
    const char = code[at] ?? '';
    if (char === '$' && code[at + 1] === '(' && quote !== "'") {
      const end = closing(code, at + 1);
      calls.push(...callsOf(code.slice(at + 2, end)));
      word = (word ?? '') + code.slice(at, end + 1);
      at = end;
    } else if (char === '\\' && quote !== "'") {
      const next = code[++at] ?? '';
      if (next !== '\n') word = (word ?? '') + next;
    } else if (quote !== '') {
      if (char === quote) quote = '';
      else word = (word ?? '') + char;
    } else if (char === "'" || char === '"') {
      quote = char;
      word ??= '';
    } else if (/[;&|()\n]/.test(char)) endCall();
    else if (/\s/.test(char)) endWord();
    else word = (word ?? '') + char;
  }
  endCall();
  return calls.map(withoutSettings).filter((call) => call.length > 0);
}

/** Where the parenthesis at `open` ends. */
function closing(code: string, open: number): number {
  let depth = 0;
  let quote = '';
  for (let at = open; at < code.length; at++) {
    const char = code[at] ?? '';
    if (quote !== '') quote = char === quote ? '' : quote;
    else if (char === "'") quote = char;
    else if (char === '(') depth++;
    else if (char === ')' && --depth === 0) return at;
  }
  throw new Error(`no closing parenthesis: ${code}`);
}

function withoutSettings(words: readonly string[]): string[] {
  const kept: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    if (/^\d?[<>]{1,2}$/.test(word)) at++;
    else if (!/^\d?[<>]/.test(word) && !/^[{}]$/.test(word)) kept.push(word);
  }
  const program = kept.findIndex((word) => !/^\w+=/.test(word));
  return program < 0 ? [] : kept.slice(program);
}
