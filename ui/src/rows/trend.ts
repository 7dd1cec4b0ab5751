// A pattern's trend: a picture a line high, and the same in words.

import { countText, momentText } from '../time/format';
import { durationText, type Zone } from '../time/range';

/** Where the parts of a trend lie in time. */
export type TrendScale = { start_ms: number; step_ms: number };

const round = (n: number) => Math.round(n * 100) / 100;

/** The bars of a trend as the path of an SVG that is so wide and so high. */
export function sparkline(counts: readonly number[], width: number, height: number): string {
  const most = Math.max(0, ...counts);
  const room = width / Math.max(1, counts.length);
  // Narrow bars stand side by side; a gap would take half of them away.
  const wide = round(room > 2 ? room - 1 : room);
  return counts
    .map((count, i) => {
      if (count <= 0) return '';
      // Nothing is too small to be drawn.
      const high = round(Math.max(1.5, (count / most) * height));
      return `M${round(i * room)} ${height}v${-high}h${wide}v${high}z`;
    })
    .join('');
}

/** A length of time in whole parts of a unit that tells enough of it: 13m, 27h, 40d. */
export function spanText(span_ms: number): string {
  const unit_ms = [86_400_000, 3_600_000, 60_000, 1000].find((unit) => span_ms >= 10 * unit) ?? 1;
  return durationText(Math.max(1, Math.round(span_ms / unit_ms)) * unit_ms);
}

/** What the picture shows, for those who do not see it. */
export function trendText(counts: readonly number[], scale: TrendScale, zone: Zone): string {
  const most = Math.max(0, ...counts);
  if (most === 0) return 'no trend';
  const filled = counts.filter((count) => count > 0).length;
  const fine_ms = scale.step_ms < 1000 ? 1 : 1000;
  const start_ms = scale.start_ms + counts.indexOf(most) * scale.step_ms;
  const at_ms = Math.floor(start_ms / fine_ms) * fine_ms;
  return (
    `most at ${momentText(at_ms, zone)}: ` +
    `${countText(most)} in ${spanText(scale.step_ms)}; ` +
    `some in ${filled} of ${counts.length} parts of the time`
  );
}
