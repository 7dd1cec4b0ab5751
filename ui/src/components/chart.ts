// Draws the histogram with uPlot: stacked bars, a brush, no legend of its own.

import uPlot from 'uplot';
import { stacked, type Histogram } from '../rows/histogram';
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

export function drawChart(target: HTMLElement, width: number, options: ChartOptions): uPlot {
  const { histogram, hidden, zone, colours } = options;
  const { starts_ms, step_ms } = histogram;
  // From the least to the worst: the worst stands on top, where it is seen.
  const shown = histogram.levels.filter(({ level }) => !hidden.has(level)).reverse();
  const sums = stacked(shown);
  const bars = uPlot.paths.bars?.({ size: [1, 64], align: 1, gap: 1 });
  // The whole stack is drawn first and each lower sum over it.
  const order = shown.map((_, i) => shown.length - 1 - i);
  const first_ms = starts_ms[0] ?? 0;
  const last_ms = first_ms + starts_ms.length * step_ms;
  const top = Math.max(1, ...(sums.at(-1) ?? [0]));
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
          values: (_, splits, __, ___, increment) =>
            splits.map((ms) => tickText(ms, increment, zone)),
        },
        {
          ...axis,
          size: 46,
          gap: 6,
          space: 28,
          grid: { stroke: colours.line, width: 1 },
          incrs: [1, 2, 5].flatMap((n) => Array.from({ length: 12 }, (_, e) => n * 10 ** e)).sort(
            (a, b) => a - b,
          ),
          values: (_, splits) => splits.map(shortCount),
        },
      ],
      series: [
        {},
        ...order.map((i) => ({
          fill: colours[shown[i]?.level ?? 'other'],
          stroke: 'transparent',
          width: 0,
          paths: bars,
          points: { show: false },
        })),
      ],
      hooks: {
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
    [starts_ms, ...order.map((i) => sums[i] ?? [])] as uPlot.AlignedData,
    target,
  );
  return chart;
}
