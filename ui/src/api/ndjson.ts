// Splits a stream of bytes into lines of text, as they arrive.
//
// Invariants: a line is handed out once, whole, in order; a UTF-8 sequence cut by a chunk border is
// put together again; the memory held is at most one line, and a line has a limit.

/** The longest line accepted. The server stores lines of up to 2 MiB, JSON escapes at most ×6. */
export const LINE_CHARS_MAX = 32 * 1024 * 1024;

export class LineTooLong extends Error {
  constructor() {
    super(
      `The server sent a line of more than ${LINE_CHARS_MAX >> 20} MiB; nothing was shown of it.`,
    );
    this.name = 'LineTooLong';
  }
}

/** Takes chunks of bytes and gives back the lines that are complete, without their line ends. */
export class LineSplitter {
  private readonly decoder = new TextDecoder('utf-8');
  private parts: string[] = [];
  private chars = 0;

  push(chunk: Uint8Array): string[] {
    return this.take(this.decoder.decode(chunk, { stream: true }));
  }

  /** Call once, after the last chunk: gives the last line when it had no line end. */
  end(): string[] {
    const lines = this.take(this.decoder.decode());
    const rest = this.parts.join('');
    this.parts = [];
    this.chars = 0;
    return rest.trim() === '' ? lines : [...lines, rest];
  }

  private take(text: string): string[] {
    const lines: string[] = [];
    let from = 0;
    for (;;) {
      const at = text.indexOf('\n', from);
      if (at < 0) break;
      let line = text.slice(from, at);
      if (this.parts.length > 0) {
        line = this.parts.join('') + line;
        this.parts = [];
        this.chars = 0;
      }
      if (line.endsWith('\r')) line = line.slice(0, -1);
      if (line !== '') lines.push(line);
      from = at + 1;
    }
    if (from < text.length) {
      // Kept as parts and joined once: appending to one string would copy a long line per chunk.
      this.parts.push(from === 0 ? text : text.slice(from));
      this.chars += text.length - from;
      if (this.chars > LINE_CHARS_MAX) throw new LineTooLong();
    }
    return lines;
  }
}
