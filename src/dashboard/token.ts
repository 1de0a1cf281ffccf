// The token that somebody typed in: in memory and in this tab's session storage, gone when the tab is closed; never in an
// address, where it would stay in histories and logs.
const KEY = 'vsf-safety-token';

let token: string | null = stored();

/** The token, or `null` where none was given. */
export const currentToken = (): string | null => token;

/** Takes a token, or with `null` forgets it. */
export function setToken(next: string | null): void {
  token = next;
  try {
    if (next === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, next);
  } catch {
    // Storage is switched off: it lives as long as the page.
  }
}

function stored(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** A WebSocket carries a token as the name of a subprotocol, where only these characters may stand (RFC 9110). */
export const fitsSubprotocol = (text: string): boolean => /^[\w!#$%&'*+.^`|~-]+$/.test(text);
