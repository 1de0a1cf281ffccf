// Bundles the dashboard into dist/dashboard: one script, one style sheet, a page and an icon, nothing from another host.
import { cp, mkdir, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const from = new URL('../src/dashboard/', import.meta.url);
const to = new URL('../dist/dashboard/', import.meta.url);
await rm(to, { recursive: true, force: true });
await mkdir(to, { recursive: true });
await build({
  entryPoints: [fileURLToPath(new URL('main.tsx', from))],
  outdir: fileURLToPath(to),
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'inline',
  logLevel: 'warning',
});
for (const file of ['index.html', 'favicon.svg']) await cp(new URL(file, from), new URL(file, to));
