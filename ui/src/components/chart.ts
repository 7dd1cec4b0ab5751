// Draws the histogram with uPlot: stacked bars, a brush, no legend of its own.

import uPlot from 'uplot';
import type { Histogram } from '../rows/histogram';
import type { Level } from '../rows/row';
import { shortCount, tickText } from '../time/format';
import type { Zone } from '../time/range';

export const CHART_HEIGHT = 104;
/** A shorter drag is a click. */
const BRUSH_PX_MIN = 4;

export type ChartOptions = {
  histogram: Histogram;
  hidden: ReadonlySet<Level>;
  zone: Zone;
  /** The colours of this theme: a bar's by its level, `line` and `text` for the axes. */
  colours: Record<Level | 'line' | 'text', string>;
  brushed: (start_ms: number, end_ms: number) => void;
  /** The bar under the pointer and where that is, or null when it left. */
  hovered: (bar: number | null, left_px: number) => void;
};

/** The brushed span, on whole bars once it covers more than one. */
function brushedSpan(chart: uPlot, { step_ms, starts_ms }: Histogram): [number, number] {
  const { left, width } = chart.select;
  const first_ms = starts_ms[0] ?? 0;
  const bar = (px: number) => (chart.posToVal(px, 'x') - first_ms) / step_ms;
  const [from, to] = [bar(left), bar(left + width)];
  const whole = to - from >= 1;
  const start = whole ? Math.floor(from + 0.25) : from;
  const end = whole ? Math.ceil(to - 0.25) : to;
  const at = (bars: number) => Math.round(first_ms + bars * step_ms);
  return [at(start), Math.max(at(end), at(start) + 1)];
}

/** Where each level's piece of each bar stands, in pixels of the canvas. */
function pieces(chart: uPlot, histogram: Histogram, shown: Histogram['levels']): Path2D[] {
  const { starts_ms, step_ms } = histogram;
  const px = devicePixelRatio;
  const x = (ms: number) => Math.round(chart.valToPos(ms, 'x', true));
  const zero = Math.round(chart.valToPos(0, 'y', true));
  const scale = zero - chart.valToPos(1, 'y', true);
  const paths = shown.map(() => new Path2D());
  starts_ms.forEach((start_ms, bar) => {
    const left = x(start_ms);
    const room = x(start_ms + step_ms) - left;
    // Narrow bars stand side by side; a gap would take half of them away.
    const width = Math.max(1, room - (room > 4 * px ? px : 0));
    let foot = zero;
    shown.forEach(({ counts }, i) => {
      const count = counts[bar] ?? 0;
      if (count === 0) return;
      // One error among a million others is what one looks for: nothing is too small to be drawn.
      const height = Math.max(Math.round(2 * px), Math.round(count * scale));
      paths[i]?.rect(left, foot - height, width, height);
      foot -= height;
    });
  });
  return paths;
}

export function drawChart(target: HTMLElement, width: number, options: ChartOptions): uPlot {
  const { histogram, hidden, zone, colours } = options;
  const { starts_ms, step_ms } = histogram;
  // From the least to the worst: the worst stands on top, where it is seen.
  const shown = histogram.levels.filter(({ level }) => !hidden.has(level)).reverse();
  const sums = starts_ms.map((_, bar) =>
    shown.reduce((sum, { counts }) => sum + (counts[bar] ?? 0), 0),
  );
  const first_ms = starts_ms[0] ?? 0;
  const last_ms = first_ms + starts_ms.length * step_ms;
  const top = Math.max(1, ...sums);
  const axis = {
    stroke: colours.text,
    font: '11px "Inter Variable", system-ui, sans-serif',
    ticks: { show: false },
  };
  const chart = new uPlot(
    {
      width,
      height: CHART_HEIGHT,
      ms: 1,
      padding: [6, 12, 0, 0],
      legend: { show: false },
      tzDate: (ms) => (zone === 'utc' ? uPlot.tzDate(new Date(ms), 'Etc/UTC') : new Date(ms)),
      cursor: {
        y: false,
        points: { show: false },
        drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => null },
      },
      scales: {
        x: { time: true, range: () => [first_ms, last_ms] },
        y: { range: () => [0, top * 1.05] },
      },
      axes: [
        {
          ...axis,
          size: 22,
          gap: 4,
          space: 90,
          grid: { show: false },
          // At the very left a label would stand in the other axis' last one, at the very right it
          // would be cut.
          values: (self, splits, _, __, increment) =>
            splits.map((ms) => {
              const left = self.valToPos(ms, 'x');
              const fits = left > 18 && left < self.bbox.width / devicePixelRatio - 18;
              return fits ? tickText(ms, increment, zone) : '';
            }),
        },
        {
          ...axis,
          size: 46,
          gap: 6,
          space: 28,
          grid: { stroke: colours.line, width: 1 },
          incrs: [1, 2, 5]
            .flatMap((n) => Array.from({ length: 12 }, (_, e) => n * 10 ** e))
            .sort((a, b) => a - b),
          values: (_, splits) => splits.map(shortCount),
        },
      ],
      series: [
        {},
        // The bars are drawn by the hook below; the series carries their height to the axis.
        { paths: () => null, points: { show: false } },
      ],
      hooks: {
        drawSeries: [
          (self) => {
            const paths = pieces(self, histogram, shown);
            shown.forEach(({ level }, i) => {
              self.ctx.fillStyle = colours[level];
              self.ctx.fill(paths[i] ?? new Path2D());
            });
          },
        ],
        setSelect: [
          (self) => {
            if (self.select.width < BRUSH_PX_MIN) return;
            const [start_ms, end_ms] = brushedSpan(self, histogram);
            self.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            options.brushed(start_ms, end_ms);
          },
        ],
        setCursor: [
          (self) => {
            const left = self.cursor.left ?? -1;
            const bar = Math.floor((self.posToVal(left, 'x') - first_ms) / step_ms);
            const inside = left >= 0 && bar >= 0 && bar < starts_ms.length;
            options.hovered(inside ? bar : null, left + self.bbox.left / devicePixelRatio);
          },
        ],
      },
    },
    [starts_ms, sums],
    target,
  );
  return chart;
}
