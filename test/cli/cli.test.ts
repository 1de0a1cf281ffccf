import t from 'tap';
import { vsfSafety } from '../support/command-line.ts';

const NAMES = [
  'serve',
  'check',
  'status',
  'estop',
  'drill',
  'reset',
  'restore',
  'forget',
  'stop-orphans',
  'config',
  'watch',
  'explain',
];

t.test('runCli() shows every command in its overview, on standard output when it was asked for', async (t) => {
  for (const argv of [['help'], ['--help'], ['-h']]) {
    const { code, out, err } = await vsfSafety(argv);
    t.equal(code, 0);
    t.equal(err, '');
    for (const name of NAMES) t.match(out, new RegExp(`^  ${name}\\b`, 'm'));
  }
  const bare = await vsfSafety([]);
  t.match(bare, { code: 2, out: '', err: /Usage: vsf-safety COMMAND/ });
});

t.test(
  'runCli() explains each command by --help, -h and help COMMAND, with usage, exit codes where they differ, and examples',
  async (t) => {
    for (const name of NAMES) {
      const asked = await Promise.all(
        [
          [name, '--help'],
          [name, '-h'],
          ['help', name],
        ].map((argv) => vsfSafety(argv)),
      );
      for (const { code, out } of asked) {
        t.equal(code, 0);
        t.match(out, new RegExp(`^Usage: vsf-safety ${name}`));
        t.match(out, /^Examples:\n {2}vsf-safety /m);
        t.notOk(
          out.split('\n').some((line) => line.length > 100),
          'fits a terminal',
        );
        t.equal(out, asked[0]?.out);
      }
    }
  },
);

t.test('runCli() tells its version', async (t) => {
  t.match(await vsfSafety(['--version']), { code: 0, out: /^vsf-safety \d+\.\d+\.\d+\n$/ });
});

t.test('runCli() answers wrong usage with exit code 2 and the way out', async (t) => {
  const cases: readonly [argv: readonly string[], err: RegExp][] = [
    [['stauts'], /no command "stauts"\. Did you mean "status"\? There are: serve, check/],
    [['jog'], /no command "jog"\..*There are: serve/],
    [['run'], /COMMAND is missing; it stands after "--"/],
    [['constructor'], /no command "constructor"/],
    [['--url', 'x', 'status'], /no option "--url"/],
    [['help', 'me'], /no command "me"/],
    [
      ['status', '--jsn'],
      /^vsf-safety status: Unknown option '--jsn'; did you mean --json\?\nSee "vsf-safety status --help"\n$/,
    ],
    [['status', 'extra'], /Unexpected argument 'extra'/],
    [['status', '--url'], /argument missing/],
    [['status', '--url', 'localhost:8470'], /--url is "localhost:8470": must be an http/],
    [['estop', '--wait', '121'], /from 0 to 120/],
    [['estop', '--wait', '1.5'], /whole number of seconds/],
    [['reset'], /--reason is missing/],
    [['reset', '--reason', ' '], /--reason is missing/],
    [['forget', '--reason', 'x'], /NODE is missing/],
    [['forget', 'a', 'b', '--reason', 'x'], /Unexpected argument "b"/],
    [['forget', 'a'], /--reason is missing/],
    [['config'], /is missing/],
    [['config', 'check'], /FILE is missing/],
    [['config', 'chek', 'f'], /no "config chek"/],
    [['serve', '--port', '99999'], /--port is 99999: must be a whole number from 0 to 65535/],
    [['check', '--source', 'locl'], /did you mean local/],
  ];
  for (const [argv, err] of cases) {
    const ran = await vsfSafety(argv);
    t.match(ran, { code: 2, out: '', err }, argv.join(' '));
  }
  t.match(await vsfSafety(['status'], { env: { VSF_SAFETY_URL: 'ftp://x' } }), {
    code: 2,
    err: /VSF_SAFETY_URL is "ftp:/,
  });
});

t.test('runCli() takes no --help from behind a double dash', async (t) => {
  t.match(await vsfSafety(['forget', '--', '--help']), { code: 2, err: /--reason is missing/ });
});
