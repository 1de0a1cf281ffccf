/** What the canary leaves, behind the path that it is given: with its number when it runs, and empty when it is told to end. */
export const CANARY_MARKS = { started: '.started', signalled: '.signalled' } as const;
