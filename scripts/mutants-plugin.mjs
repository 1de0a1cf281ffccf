// What Stryker needs of us: how the tests are run, and what is not worth a change. See scripts/mutants.mjs.
//
// The tests are compiled once per worker, and evaluated anew for each change, in the same process: all modules of ours
// begin from nothing, so that a change to what is made once when a module is loaded counts too.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, relative, resolve } from 'node:path';
import { compileFunction } from 'node:vm';
import { INSTRUMENTER_CONSTANTS } from '@stryker-mutator/api/core';
import { declareClassPlugin, declareValuePlugin, PluginKind } from '@stryker-mutator/api/plugin';
import {
  DryRunStatus,
  determineHitLimitReached,
  TestStatus,
  toMutantRunResult,
} from '@stryker-mutator/api/test-runner';
// Parts of tap; as a whole it takes a process for one test file, and talks to its parent. The first one must come first.
import '@tapjs/core';
import { Test } from '@tapjs/test';

export const BUNDLE = '.tap/tests.cjs';
/** By words of their titles: tests that take a second or more, and tests of the built product, which has no changes in it. */
const HEAVY =
  /takes time in proportion|any changed byte|at any byte|200,000 of all|keeps all of it in memory|more often than a call|5,000 leases|a card too many|kill -9|really full/;
const require = createRequire(import.meta.url);

/** The switches that the changed code looks at. */
globalThis[INSTRUMENTER_CONSTANTS.NAMESPACE] ??= {};
const switches = globalThis[INSTRUMENTER_CONSTANTS.NAMESPACE];

class BundledTap {
  /** Evaluates the tests' file; once it has been counted what runs what, one without the counting. */
  #evaluate = null;
  /** By file that is changed: how often each test file has seen it. */
  #seen = new Map();
  /** Takes a test that the file which is being loaded declares. */
  #add = null;

  capabilities() {
    return { reloadEnvironment: true };
  }

  async dryRun() {
    const text = readFileSync(BUNDLE, 'utf8');
    const loaders = this.#begin(compiled(text));
    const tests = [];
    for (const [file, load] of Object.entries(loaders)) tests.push(...(await this.#run(file, load, null)));
    return { status: DryRunStatus.Complete, tests, mutantCoverage: switches.mutantCoverage };
  }

  async mutantRun({ activeMutant, testFilter, sandboxFileName, hitLimit }) {
    this.#evaluate ??= compiled(withoutCounting(readFileSync(BUNDLE, 'utf8')));
    switches.activeMutant = activeMutant.id;
    switches.hitCount = hitLimit === undefined ? undefined : 0;
    switches.hitLimit = hitLimit;
    const source = relative('.', sandboxFileName);
    const seen = this.#seen.get(source) ?? new Map();
    this.#seen.set(source, seen);
    const loaders = this.#begin(this.#evaluate);
    // What is made once, when a module is loaded, may be seen by any test.
    const files = testFilter ? [...new Set(testFilter.map(fileOf))] : Object.keys(loaders);
    // The file's own tests are the likeliest to see it, then those that saw others there.
    const rank = (file) =>
      basename(file).startsWith(`${basename(source, '.ts')}.`) ? Infinity : (seen.get(file) ?? 0);
    const tests = [];
    for (const file of files.sort((a, b) => rank(b) - rank(a))) {
      tests.push(...(await this.#run(file, loaders[file], testFilter ?? null)));
      if (tests.at(-1)?.status !== TestStatus.Failed) continue;
      seen.set(file, (seen.get(file) ?? 0) + 1);
      break;
    }
    switches.activeMutant = undefined;
    const isEndless = determineHitLimitReached(switches.hitCount, hitLimit);
    return toMutantRunResult(isEndless ?? { status: DryRunStatus.Complete, tests });
  }

  /** Modules begin from nothing; gives what loads each test file. */
  #begin(evaluate) {
    const tap = { test: (...test) => this.#add(...test) };
    const module = { exports: {} };
    evaluate((name) => (name === 'tap' ? tap : require(name)), module, switches);
    return module.exports;
  }

  /** Runs those tests of a file, `null` all, up to the first that fails. */
  async #run(file, load, only) {
    const root = new Test({ name: file, bail: true });
    let failure = '';
    root.on('data', (chunk) => {
      failure ||= /^ *not ok .*/m.exec(chunk)?.[0].trim() ?? '';
    });
    const ended = new Promise((resolve) => {
      root.once('bailout', () => resolve(false));
      root.once('complete', ({ ok }) => resolve(ok));
    });
    root.runMain(() => undefined);
    const results = [];
    let current = { id: `${file}: is loaded`, startedMs: performance.now() };
    const settle = (failureMessage) => {
      const status = failureMessage === null ? TestStatus.Success : TestStatus.Failed;
      const timeSpentMs = performance.now() - current.startedMs;
      results.push({
        id: current.id,
        name: current.id,
        fileName: resolve('test', file),
        timeSpentMs,
        status,
        failureMessage,
      });
    };
    try {
      // Its tests begin once all is loaded, so that it can be told what was run by which.
      const found = [];
      this.#add = (title, ...rest) => found.push([title, rest]);
      load();
      for (const [title, rest] of found) {
        current = { id: `${file}: ${title}`, startedMs: performance.now() };
        if (HEAVY.test(title) || (only && !only.includes(current.id))) continue;
        switches.currentTestId = current.id;
        await Promise.race([root.test(title, ...rest), ended]);
        switches.currentTestId = undefined;
        if (failure !== '') break;
        settle(null);
      }
      root.end();
      if (await ended) return results;
    } catch (error) {
      if (error !== 'bailout') failure = String(error);
    }
    switches.currentTestId = undefined;
    settle(failure);
    return results;
  }
}

const compiled = (text) => compileFunction(text, ['require', 'module', 'switches'], { filename: resolve(BUNDLE) });

/** What counts who runs what, and asks for each switch by a call, takes half of all time. */
const withoutCounting = (text) =>
  text
    .replace(/stryCov_9fa48\d*\("[^()]*"\)/g, '0')
    .replace(/(stryMutAct_9fa48\d*)\(("\d+")\)/g, '(switches.activeMutant === $2 && $1($2))');

const fileOf = (id) => id.slice(0, id.indexOf(': '));

/** Says what is left standing as soon as it is known: one need not wait for the end. */
class Survivors {
  onMutantTested({ status, fileName, location: { start }, mutatorName, replacement }) {
    if (status !== 'Survived' && status !== 'NoCoverage') return;
    const where = `${relative('.', fileName)}:${start.line}:${start.column}`;
    console.log(`${status} ${where} ${mutatorName} ${(replacement ?? '').replace(/\s+/g, ' ').slice(0, 100)}`);
  }
}

/** Sentences are for people: no test says how they are worded. */
const words = {
  shouldIgnore({ node }) {
    const texts =
      node.type === 'TemplateLiteral'
        ? node.quasis.map(({ value }) => value.raw)
        : node.type === 'StringLiteral'
          ? [node.value]
          : [];
    return texts.some((text) => /\S\s|\s\S/.test(text)) ? 'words for people' : undefined;
  },
};

export const strykerPlugins = [
  declareClassPlugin(PluginKind.TestRunner, 'bundled-tap', BundledTap),
  declareClassPlugin(PluginKind.Reporter, 'survivors', Survivors),
  declareValuePlugin(PluginKind.Ignore, 'words', words),
];
