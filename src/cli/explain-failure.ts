// An address that could not be read: what can be done about it. The words of the failure are the getter's and the
// exporter's own, the same as in /status; here stands what a person tries next.
interface Remedy {
  /** Of the failure's words. */
  readonly when: RegExp;
  readonly advice: (url: URL, hasCredentials: boolean) => string | null;
}

const REMEDIES: readonly Remedy[] = [
  {
    when: /connection was refused/,
    advice: ({ port, protocol }) =>
      `Is the exporter running, and does it listen there? On its machine: ss -ltn | grep ${port || (protocol === 'https:' ? 443 : 80)} (one on 127.0.0.1 answers nobody else)`,
  },
  {
    when: /no answer within/,
    advice: ({ href }) =>
      `Try: curl --max-time 10 ${shellWord(href)}. A firewall that drops is silent; an exporter of slow hardware may need longer than 10 s`,
  },
  {
    when: /name is unknown|DNS does not answer/,
    advice: ({ hostname }) => `Try: getent hosts ${hostname}. Mend the name, or give the address itself`,
  },
  { when: /no route to it/, advice: () => 'Is that machine on, and can this one reach its network?' },
  {
    when: /answered 40[13]\b/,
    advice: ({ host }, hasCredentials) =>
      hasCredentials
        ? `It does not take what the configuration's credentials give for ${host}, or none of them names it`
        : `It wants credentials: name ${host} under "credentials" in a configuration, and use --config FILE`,
  },
  { when: /redirect to/, advice: () => 'Give the address that it leads to; the service follows no redirect' },
  {
    when: /answered 404\b|a web page/,
    advice: ({ origin, pathname }) => (pathname === '/metrics' ? null : `Exporters mostly answer at ${origin}/metrics`),
  },
  {
    when: /JSON, not metrics/,
    advice: () => "A Prometheus server's API is read under source: prometheus; explain takes what an exporter answers",
  },
  {
    when: /certificate|altnames|self-signed|unable to verify/i,
    advice: ({ host }) =>
      `Name its authority as caFile (and serverName where the names differ) for ${host} under "credentials", and use --config FILE`,
  },
  {
    when: /EPROTO|wrong version number|packet length|ssl3|SSL routines/i,
    advice: ({ href }) => `It may speak no TLS: try ${href.replace(/^https:/, 'http:')}`,
  },
  {
    when: /does not answer in HTTP|answered 400\b|without an HTTP answer|cut before an answer/,
    advice: ({ href, protocol }) =>
      protocol === 'http:' ? `It may want TLS: try ${href.replace(/^http:/, 'https:')}` : null,
  },
];

/** What to try next; nothing where nobody knows. */
export function adviceForFailure(url: string, detail: string, hasCredentials: boolean): readonly string[] {
  const remedy = REMEDIES.find(({ when }) => when.test(detail));
  const advice = remedy?.advice(new URL(url), hasCredentials) ?? null;
  return advice === null ? [] : [advice];
}

function shellWord(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
