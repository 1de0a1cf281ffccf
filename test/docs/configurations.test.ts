// The configurations that the documents show are taken as they stand: by `config check`, by the chart, as JSON.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { SCHEMA } from '../../src/config-schema.ts';
import { lacksHelm, runTemplate } from '../support/chart.ts';
import { vsfSafety } from '../support/command-line.ts';
import { markdownFiles, readDocument } from '../support/markdown.ts';
import { freshFolder } from '../support/real-service.ts';

/** YAML that is somebody else's, by what it begins with. */
const NOT_OURS: Readonly<Record<string, string>> = {
  '# prometheus.yml': 'Prometheus’ own configuration',
  '- alert: RoomTooHot': 'an alert rule of the reader’s',
  '# my-values.yaml': 'values of the chart, below',
  '# certificate.yaml': 'an object of cert-manager’s',
  'volumes:': 'part of a pod',
};

const blocks = markdownFiles().flatMap((path) => readDocument(path).blocks.map((block) => ({ ...block, path })));
const yaml = blocks.filter(({ language }) => language === 'yaml');
const beginningOf = (text: string): string => text.split('\n')[0] ?? '';

t.test('config check takes every configuration that a document shows', async (t) => {
  const folder = freshFolder(t);
  const ours = yaml.filter(({ text }) => NOT_OURS[beginningOf(text)] === undefined);
  t.ok(ours.length > 12, `${ours.length} configurations`);
  for (const { path, line, text } of ours) {
    const file = join(folder, 'safety.yaml');
    writeFileSync(file, text);
    const { code, err } = await vsfSafety(['config', 'check', file]);
    t.equal(code, 0, `${path}:${line} ${err}`);
  }
  t.same(
    Object.keys(NOT_OURS).filter((beginning) => !yaml.some(({ text }) => beginningOf(text) === beginning)),
    [],
    'nothing is excused that is no longer written',
  );
  t.notOk(Object.keys(SCHEMA.properties).includes('volumes'), 'and nothing that is ours');
});

t.test('what is somebody else’s is YAML', (t) => {
  for (const { path, line, text } of yaml) t.doesNotThrow(() => parse(text), `${path}:${line}`);
  t.end();
});

t.test('the chart takes the values that its README shows', { skip: lacksHelm }, async (t) => {
  const shown = yaml.filter(({ path, text }) => path === 'helm/README.md' && beginningOf(text) === '# my-values.yaml');
  t.equal(shown.length, 1);
  const { code, err } = await runTemplate(freshFolder(t), { values: parse(shown[0]?.text ?? '') });
  t.equal(code, 0, err);
});

t.test('JSON in the documents is JSON', (t) => {
  for (const { path, line, language, text } of blocks) {
    if (language === 'json') t.doesNotThrow(() => JSON.parse(text), `${path}:${line}`);
  }
  t.end();
});
