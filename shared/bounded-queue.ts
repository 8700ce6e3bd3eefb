// A first-in, first-out queue with a stated bound: push answers false at the bound and the caller decides what that means.

export class BoundedQueue<T> {
  #items: (T | undefined)[] = [];
  #head = 0;
  readonly #capacity: number;

  constructor(options: { readonly capacity: number }) {
    this.#capacity = options.capacity;
  }

  get size(): number {
    return this.#items.length - this.#head;
  }

  push(item: T): boolean {
    if (this.size >= this.#capacity) return false;
    this.#items.push(item);
    return true;
  }

  shift(): T | undefined {
    if (this.size === 0) return undefined;
    const item = this.#items[this.#head];
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#items.length) {
      // An idle queue holds no memory.
      this.#items = [];
      this.#head = 0;
    } else if (this.#head > 1_024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  peek(): T | undefined {
    return this.#items[this.#head];
  }

  /** Takes up to `most` items from the front. */
  take(most: number): T[] {
    const taken: T[] = [];
    while (taken.length < most && this.size > 0) taken.push(this.shift() as T);
    return taken;
  }
}
