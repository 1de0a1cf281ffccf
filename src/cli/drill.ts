// `vsf-safety drill`: what an emergency stop would stop, without touching anything. The same path as a real one, with an
// actuator that only reports.
import type { DrillAnswerSchema, Told } from '../http/schemas.ts';
import { CLIENT_HELP, CLIENT_OPTIONS, ServiceClient } from './client.ts';
import { type Command, EXIT, readArguments } from './io.ts';
import { paintFor, printable, writeJson, writeLines } from './layout.ts';
import { entryLines } from './stop-lines.ts';

const help = `\
Usage: vsf-safety drill [--node NODE]... [options]

Lists what an emergency stop would stop now. Touches nothing and latches nothing. Needs the
operator's token.

Options:
  --node NODE        only this node; may be given more than once
${CLIENT_HELP}

Examples:
  vsf-safety drill
  vsf-safety drill --node bizon1 --json
`;

export const command: Command = {
  help,
  async run(args, io) {
    const { values } = readArguments(args, { ...CLIENT_OPTIONS, node: { type: 'string', multiple: true } });
    const client = await ServiceClient.from(values, io);
    const body = { drill: true, ...(values.node && { nodes: values.node }) };
    const answer = await client.ask({ method: 'POST', path: '/estop', body, needs: 'operator', expects: [200] });
    if (values.json) {
      writeJson(io.stdout, answer.body);
      return EXIT.ok;
    }
    const drill = answer.body as Told<typeof DrillAnswerSchema>;
    const paint = paintFor(io);
    const where = drill.scope.kind === 'all' ? 'everything' : printable(drill.scope.nodes.join(', '));
    writeLines(io.stdout, [
      `Drill: a stop of ${where} would stop ${drill.entries.length === 0 ? 'nothing, since nothing runs' : 'this:'}`,
      ...entryLines(drill.entries, paint),
      ...drill.unknownNodes.map((node) => `  ${paint('unknown node', 'red')}  ${printable(node)}`),
      'Nothing was touched.',
    ]);
    return EXIT.ok;
  },
};
