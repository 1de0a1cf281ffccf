// `vsf-safety forget`: a node or card that was seen once is expected for ever, since a lost one shows up as absence. This
// is how an operator says that it was taken out on purpose.
import type { ProblemSchema, Told } from '../http/schemas.ts';
import { CLIENT_HELP, CLIENT_OPTIONS, ServiceClient } from './client.ts';
import { type Command, CommandFailed, EXIT, readArguments } from './io.ts';
import { printable, writeJson, writeLines } from './layout.ts';

const help = `\
Usage: vsf-safety forget NODE [--gpu ID] --reason TEXT [options]

Stops expecting a card, or every card of a node that is gone. Refused while it is still there; for
a dead card that still shows on the bus write "ignore: true" in the configuration. Needs the
operator's token.

Options:
  --gpu ID           one card, by UUID or PCI address, as "vsf-safety status" lists it
  --reason TEXT      kept in the journal (required)
${CLIENT_HELP}

Exit code: 0 forgotten; 75 refused; 1 error.

Examples:
  vsf-safety forget bizon1 --gpu 0000:0b:00.0 --reason "sent in for repair"
  vsf-safety forget old-node --reason "decommissioned"
`;

export const command: Command = {
  help,
  async run(args, io) {
    const { values, positionals } = readArguments(
      args,
      { ...CLIENT_OPTIONS, gpu: { type: 'string' }, reason: { type: 'string' } },
      { names: ['NODE'], from: 1 },
    );
    const [node = ''] = positionals;
    const { gpu, reason } = values;
    if (!reason?.trim()) throw new CommandFailed('--reason is missing: say why it is gone', EXIT.usage);
    const client = await ServiceClient.from(values, io);
    const path = `/nodes/${encodeURIComponent(node)}/forget`;
    const body = { reason, ...(gpu !== undefined && { gpu }) };
    const answer = await client.ask({ method: 'POST', path, body, needs: 'operator', expects: [200, 409] });
    if (values.json) writeJson(io.stdout, answer.body);
    if (answer.status === 409) {
      const { detail } = answer.body as Told<typeof ProblemSchema>;
      if (!values.json) writeLines(io.stderr, [`vsf-safety forget: ${printable(detail)}`]);
      return EXIT.refused;
    }
    if (values.json) return EXIT.ok;
    const { gpus } = answer.body as { readonly gpus: readonly string[] };
    const which = gpus.length === 0 ? '' : `: ${gpus.map((id) => `GPU ${printable(id)}`).join(', ')}`;
    writeLines(io.stdout, [
      `Forgotten: ${gpu === undefined ? `node ${printable(node)}` : `a card of ${printable(node)}`}${which}`,
    ]);
    return EXIT.ok;
  },
};
