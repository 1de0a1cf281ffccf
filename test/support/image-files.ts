// The files of the image, laid out as its Dockerfile copies them, from what is built here and from nothing else.
import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { freshFolder, ROOT } from './real-service.ts';

export const DOCKERFILE = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');

/** Each `COPY --from=build /build/… TARGET`: what is copied, relative to the project, and where to. */
export function copiesOf(dockerfile: string): { readonly from: string; readonly to: string }[] {
  return [...dockerfile.matchAll(/^COPY --from=build (.*) (\S+)$/gm)].flatMap(([, sources = '', target = '']) =>
    sources
      .split(' ')
      .filter((source) => source.startsWith('/build/'))
      .map((source) => ({
        from: source.slice('/build/'.length),
        to: target.endsWith('/') ? join(target, basename(source)) : target,
      })),
  );
}

/** A folder with `/app` as it is in the image; gone after the test. */
export function layOutImage(t: Parameters<typeof freshFolder>[0]): string {
  const root = freshFolder(t);
  for (const { from, to } of copiesOf(DOCKERFILE)) {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    cpSync(join(ROOT, from), join(root, to), { recursive: true, filter: (path) => !path.endsWith('.map') });
  }
  return root;
}
