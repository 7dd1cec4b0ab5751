// Where each row of a long list stands, when most rows have one height and some were measured.
//
// A Fenwick tree holds, per row, the difference to the usual height: changing one row, finding the
// top of a row and finding the row at a position are all O(log n), so half a million rows of mixed
// heights scroll as smoothly as a hundred.

export class Heights {
  private tree = new Float64Array(1025);
  private differences = new Float64Array(1024);
  private rows = 0;

  constructor(private usual: number) {}

  get count(): number {
    return this.rows;
  }

  /** The height of all rows together. */
  get total(): number {
    return this.top(this.rows);
  }

  /** Changes how many rows there are; rows that stay keep their heights. */
  resize(count: number): void {
    if (count < this.rows) this.differences.fill(0, count, this.rows);
    const shrunk = count < this.rows;
    this.rows = count;
    if (count > this.differences.length) {
      const grown = new Float64Array(2 ** Math.ceil(Math.log2(count)));
      grown.set(this.differences);
      this.differences = grown;
      this.rebuild();
    } else if (shrunk) {
      this.rebuild();
    }
  }

  /** Forgets every measured height. */
  reset(usual: number): void {
    this.usual = usual;
    this.differences.fill(0);
    this.tree.fill(0);
  }

  height(row: number): number {
    return this.usual + (this.differences[row] ?? 0);
  }

  /** Sets one row's height and gives back by how much it grew. */
  set(row: number, height: number): number {
    if (row < 0 || row >= this.rows) return 0;
    const growth = height - this.height(row);
    if (Math.abs(growth) < 0.01) return 0;
    this.differences[row] = (this.differences[row] ?? 0) + growth;
    for (let at = row + 1; at < this.tree.length; at += at & -at) {
      this.tree[at] = (this.tree[at] ?? 0) + growth;
    }
    return growth;
  }

  /** The distance from the top of the list to the top of a row. */
  top(row: number): number {
    let sum = row * this.usual;
    for (let at = row; at > 0; at -= at & -at) sum += this.tree[at] ?? 0;
    return sum;
  }

  /** The row that covers a distance from the top of the list. */
  at(distance: number): number {
    let row = 0;
    let rest = distance;
    for (let step = this.tree.length - 1; step > 0; step >>= 1) {
      const next = row + step;
      if (next >= this.tree.length) continue;
      const height = step * this.usual + (this.tree[next] ?? 0);
      if (height <= rest) {
        row = next;
        rest -= height;
      }
    }
    return Math.max(0, Math.min(row, this.rows - 1));
  }

  private rebuild(): void {
    const size = this.differences.length;
    this.tree = new Float64Array(size + 1);
    for (let at = 1; at <= size; at += 1) {
      this.tree[at] = (this.tree[at] ?? 0) + (this.differences[at - 1] ?? 0);
      const parent = at + (at & -at);
      if (parent <= size) this.tree[parent] = (this.tree[parent] ?? 0) + (this.tree[at] ?? 0);
    }
  }
}
