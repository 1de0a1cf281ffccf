// `vsf-safety token new`: a token that nobody can guess, and the line that makes it known. The service is told the hash
// alone, so that whoever reads its configuration learns no token.
import { createHash, randomBytes } from 'node:crypto';
import { type Command, CommandFailed, EXIT, readArguments } from './io.ts';
import { writeJson, writeLines } from './layout.ts';

const ROLES = ['viewer', 'workload', 'operator'];
/** 256 bits, as much as the SHA-256 that tokens are compared by. */
const TOKEN_BYTES = 32;

const help = `\
Usage: vsf-safety token new --role ROLE [--json]

Makes a bearer token, and prints it and the line for auth.tokens of the configuration. The token
is kept nowhere: give it to its holder, and put the line into the configuration, which is read
again within 10 seconds. To rotate, add the new line, hand out the token, then take the old line out.

Options:
  --role ROLE        viewer reads; workload also takes leases and stops; operator does everything
  --json             {role, token, sha256} as JSON

The operator's own token in the state folder is rotated by removing its file and sending the
service SIGHUP: it makes a new one.

Examples:
  vsf-safety token new --role viewer
  vsf-safety token new --role workload --json | jq -r .token > /etc/vsf-workload.token
`;

export const command: Command = {
  help,
  async run(args, io) {
    const { values, positionals } = readArguments(
      args,
      { role: { type: 'string' }, json: { type: 'boolean' } },
      { names: ['the action (token new)'], from: 1 },
    );
    const [action = ''] = positionals;
    if (action !== 'new') throw new CommandFailed(`There is no "token ${action}", only "token new"`, EXIT.usage);
    const { role = '' } = values;
    if (!ROLES.includes(role)) {
      throw new CommandFailed(`--role is ${JSON.stringify(role)}: must be ${ROLES.join(', ')}`, EXIT.usage);
    }
    // The prefix lets a secret scanner and a person recognise it.
    const token = `vsf_${randomBytes(TOKEN_BYTES).toString('base64url')}`;
    const sha256 = createHash('sha256').update(token).digest('hex');
    if (values.json) writeJson(io.stdout, { role, token, sha256 });
    else {
      writeLines(io.stdout, [
        `token   ${token}`,
        `line    - { role: ${role}, sha256: "${sha256}" }`,
        `name    token:${sha256.slice(0, 12)}   (so it is called in leases, trips and the audit)`,
      ]);
    }
    return EXIT.ok;
  },
};
