// How deep a text of brackets and indents goes, told without a parser. YAML's calls itself for each level, and where that
// leaves it no stack, a pattern that is compiled just then ends the whole process (seen in Node 20 with 20,000 brackets):
// configuration and lists of targets are read again while the service runs, and no file may end it.

/** Levels of brackets, or columns before a line's first word: far more than anything that we read has. */
const MOST_LEVELS = 200;

/** The first line that nests further, from 1; `null` where none does. */
export function lineTooDeep(text: string): number | null {
  let open = 0;
  for (const [index, line] of text.split('\n').entries()) {
    for (const character of line) {
      if (character === '[' || character === '{') open += 1;
      else if (character === ']' || character === '}') open = Math.max(0, open - 1);
      if (open > MOST_LEVELS) return index + 1;
    }
    if (line.search(/[^\s?:-]|$/) > MOST_LEVELS) return index + 1;
  }
  return null;
}
