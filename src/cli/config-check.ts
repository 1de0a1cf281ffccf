// `vsf-safety config check FILE`: every fault of a file with its line, without starting anything. The file is judged by
// itself; what the environment of some service adds to it is not known here.
import { type Config, explainProblems, loadConfig } from '../config.ts';
import { type Command, CommandFailed, EXIT, readArguments } from './io.ts';
import { limitText, paintFor, tableOf, writeJson, writeLines } from './layout.ts';

const help = `\
Usage: vsf-safety config check FILE [--json]

Explains every fault of a configuration file with its line, or shows the limits that it sets.

Options:
  --json             {ok, problems, warnings} as JSON

Exit code: 0 the file is good; 1 it has faults or cannot be read.

Examples:
  vsf-safety config check safety.yaml
  vsf-safety config check /etc/vsf-safety/safety.yaml --json | jq '.problems[].line'
`;

export const command: Command = {
  help,
  async run(args, io) {
    const { values, positionals } = readArguments(
      args,
      { json: { type: 'boolean' } },
      { names: ['the action (config check FILE)', 'FILE'], from: 1 },
    );
    const [action = '', file] = positionals;
    if (action !== 'check')
      throw new CommandFailed(`There is no "config ${action}", only "config check FILE"`, EXIT.usage);
    if (file === undefined) throw new CommandFailed('FILE is missing: config check FILE', EXIT.usage);
    const loaded = loadConfig({ file, env: {}, hostname: io.hostname, homeDir: io.homeDir });
    const warnings = loaded.ok ? loaded.warnings : [];
    if (values.json) {
      const problems = loaded.ok ? [] : loaded.problems;
      writeJson(io.stdout, { ok: loaded.ok, problems, warnings });
      return loaded.ok ? EXIT.ok : EXIT.error;
    }
    if (!loaded.ok) throw new CommandFailed(explainProblems(loaded.problems, file));
    const paint = paintFor(io);
    writeLines(io.stdout, [
      `${file}: ${paint('good', 'green')}`,
      ...warnings.map((warning) => `  ${paint('warning', 'yellow')}: ${warning}`),
      '',
      ...tableOf(limitRows(loaded.config), paint),
    ]);
    return EXIT.ok;
  },
};

/** The limits in force, for all nodes and for each that has its own: what a person checks last before a start. */
function limitRows({ settings }: Config): string[][] {
  const columns = [
    ['', settings.defaults] as const,
    ...[...settings.nodes].filter(([, node]) => node.constraints !== settings.defaults.constraints),
  ];
  const row = (name: string, of: (limits: Config['settings']['defaults']['constraints']) => string): string[] => [
    name,
    ...columns.map(([, { constraints }]) => of(constraints)),
  ];
  const pair = ({ warning, hardStop }: { readonly warning: number; readonly hardStop: number }, unit: string): string =>
    `${limitText(warning, unit)} / ${limitText(hardStop, unit)}`;
  return [
    [
      'LIMIT',
      ...columns.map(([name, { profile }]) => (name === '' ? `EVERY NODE (${profile})` : `${name} (${profile})`)),
    ],
    row('GPU temperature', ({ gpu }) => pair(gpu.temperatureC, '°C')),
    row('CPU temperature', ({ cpu }) => pair(cpu.temperatureC, '°C')),
    row('total power', ({ system }) => pair(system.powerW, 'W')),
    row('power per GPU', ({ gpu }) => pair(gpu.powerW, 'W')),
    row('CPU', ({ cpu }) => limitText(cpu.utilizationRatio.max, 'ratio')),
    row('memory', ({ system }) => limitText(system.memoryRatio.max, 'ratio')),
    row('GPU memory', ({ gpu }) => limitText(gpu.memoryRatio.max, 'ratio')),
    row('workload intensity', ({ workload }) => limitText(workload.intensityRatio.max, 'ratio')),
  ];
}
