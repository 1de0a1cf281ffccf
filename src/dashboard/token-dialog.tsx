// Where a token is typed in. It is tried at once by reading the status with it; what it may do beyond that is seen when it
// is used.
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { ask } from './api.ts';
import { currentToken, fitsSubprotocol, setToken } from './token.ts';

interface Props {
  readonly isOpen: boolean;
  onClose(isChanged: boolean): void;
}

export function TokenDialog({ isOpen, onClose }: Props): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState('');
  const [problem, setProblem] = useState('');
  useEffect(() => {
    if (isOpen) dialog.current?.showModal();
    else dialog.current?.close();
    setText('');
    setProblem('');
  }, [isOpen]);

  const take = async (): Promise<void> => {
    const token = text.trim();
    if (!fitsSubprotocol(token)) {
      setProblem('A token has only letters, digits and !#$%&’*+-.^_`|~ here: a browser cannot send others.');
      return;
    }
    const before = currentToken();
    setToken(token);
    const answer = await ask('GET', '/estop');
    if (answer.ok || answer.status === null) return onClose(true);
    setToken(before);
    setProblem(answer.why);
  };
  return (
    <dialog ref={dialog} aria-labelledby="token-title" onClose={() => isOpen && onClose(false)}>
      <form
        method="dialog"
        onSubmit={(event) => {
          event.preventDefault();
          void take();
        }}
      >
        <h2 id="token-title">Token</h2>
        <p class="quiet">
          An operator’s resets, drills and simulates. The first start made one, in the state folder’s file{' '}
          <code>operator-token</code>. It is kept in this tab until it is closed, and shown to this service alone.
        </p>
        <label>
          Token
          <input
            type="password"
            autocomplete="off"
            required
            value={text}
            aria-describedby="token-problem"
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <p id="token-problem" class="refusal" role="alert">
          {problem}
        </p>
        <div class="buttons">
          <button type="submit" class="primary" disabled={text.trim() === ''}>
            Use it
          </button>
          {currentToken() !== null && (
            <button
              type="button"
              onClick={() => {
                setToken(null);
                onClose(true);
              }}
            >
              Forget the one in use
            </button>
          )}
          <button type="button" onClick={() => onClose(false)}>
            Cancel
          </button>
        </div>
      </form>
    </dialog>
  );
}
