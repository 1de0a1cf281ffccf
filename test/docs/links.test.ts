// Every relative link in the documents leads to a file of the project, and every #anchor to a heading there.
import { existsSync } from 'node:fs';
import { dirname, normalize } from 'node:path';
import t from 'tap';
import { type MarkdownDocument, markdownFiles, readDocument } from '../support/markdown.ts';

const documents = new Map(markdownFiles().map((path) => [path, readDocument(path)]));

/** What is wrong with a link, or null. */
function faultOf({ path }: MarkdownDocument, target: string): string | null {
  if (/^(https?|mailto):/.test(target)) return null;
  const [place = '', anchor] = target.split('#');
  const file = place === '' ? path : normalize(`${dirname(path)}/${decodeURIComponent(place)}`).replace(/\/$/, '');
  if (file.startsWith('..') || !existsSync(file)) return `there is no ${file}`;
  if (anchor === undefined || documents.get(file)?.anchors.has(anchor)) return null;
  return `${file} has no heading #${anchor}`;
}

t.test('links lead to files and headings that are there', (t) => {
  t.ok(documents.size > 20, `${documents.size} documents`);
  let count = 0;
  for (const document of documents.values()) {
    for (const { target, line } of document.links) {
      count++;
      t.equal(faultOf(document, target), null, `${document.path}:${line} ${target}`);
    }
  }
  t.ok(count > 100, `${count} links`);
  t.end();
});

t.test('faultOf() names what a broken link lacks', (t) => {
  const readme = readDocument('README.md');
  t.equal(faultOf(readme, 'docs/nothing.md'), 'there is no docs/nothing.md');
  t.equal(faultOf(readme, '../elsewhere.md'), 'there is no ../elsewhere.md');
  t.equal(faultOf(readme, '#nothing'), 'README.md has no heading #nothing');
  t.equal(faultOf(readme, 'docs/security.md#nothing'), 'docs/security.md has no heading #nothing');
  t.equal(faultOf(readme, '#the-two-commands'), null);
  const made = readDocument(
    'x.md',
    '# A `b`, c & d_e\n# Twice\n# Twice\n```sh\n# no heading\n```\n`[no](link)` [a\nb](c)',
  );
  t.same([...made.anchors], ['a-b-c--d_e', 'twice', 'twice-1']);
  t.same(made.links, [{ target: 'c', line: 8 }]);
  t.end();
});
