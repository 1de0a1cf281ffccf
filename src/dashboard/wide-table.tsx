// A table that may be wider than the screen: it scrolls by itself, and by the keyboard, too.
import type { ComponentChildren, JSX } from 'preact';

interface Props {
  /** What it is a table of. */
  readonly label: string;
  readonly children: ComponentChildren;
}

export function WideTable({ label, children }: Props): JSX.Element {
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms.
    // biome-ignore lint/a11y/noNoninteractiveTabindex: who has no pointer could not scroll it otherwise.
    <div class="scroll" role="group" aria-label={label} tabIndex={0}>
      <table class="list">{children}</table>
    </div>
  );
}
