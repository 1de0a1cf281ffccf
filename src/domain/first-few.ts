/** The first `most` of `items`, and how many more there are: "a, b and 3 more". Empty where there are none. */
export function firstFew(items: readonly string[], most: number, more = 'more'): string {
  const left = items.length - most;
  return items.slice(0, most).join(', ') + (left > 0 ? ` and ${left} ${more}` : '');
}
