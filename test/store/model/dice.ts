// The choices of one step, thrown beforehand: what they mean is decided when the step is played, by the rows of that moment.
// Shrinking makes numbers smaller and lists shorter, so the first of several choices is always the ordinary one.

/** Throws of one step; beyond the last every choice is the first one. */
export class Dice {
  readonly #throws: readonly number[];
  #at = 0;

  constructor(throws: readonly number[]) {
    this.#throws = throws;
  }

  below(bound: number): number {
    const thrown = this.#throws[this.#at] ?? 0;
    this.#at += 1;
    return bound <= 1 ? 0 : thrown % bound;
  }

  oneOf<Item>(items: readonly [Item, ...Item[]]): Item {
    return items[this.below(items.length)] ?? items[0];
  }

  maybe<Item>(items: readonly Item[]): Item | undefined {
    return items[this.below(items.length)];
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === times - 1;
  }

  /** 1 to `most` times what `make` makes. */
  several<Item>(most: number, make: (index: number) => Item): Item[] {
    return Array.from({ length: 1 + this.below(most) }, (_, index) => make(index));
  }
}
