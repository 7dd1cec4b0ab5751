// The page: what is asked, where it stands in the address bar, and the search that answers it.

import { addClause, removeClause, hasClause } from '../query/edit';
import { isTable, matching } from '../query/logsql';
import { patternClause } from '../query/pattern';
import { placeFromSearch, searchOf, type Place, type View } from './address';
import { Fields } from './fields.svelte';
import { Live } from './live.svelte';
import { Patterns } from './patterns.svelte';
import { Search } from './search.svelte';
import { sameRange, type TimeRange } from '../time/range';

const LIVE_CHART_MS = 5 * 60_000;
const LIVE_CHART_EVERY_MS = 5_000;

const start = placeFromSearch(location.search);

/** Whether both ask for the same records. */
function sameSearch(a: Place, b: Place): boolean {
  return a.query === b.query && a.live === b.live && sameRange(a.range, b.range);
}

export class Page {
  /** The text in the search box, perhaps not asked yet. */
  draft = $state(start.query);
  range = $state.raw<TimeRange>(start.range);
  live = $state(start.live);
  view = $state<View>(start.view);
  /** A short word to the user that leaves by itself. */
  notice = $state('');
  readonly search = new Search();
  readonly patterns = new Patterns();
  readonly fields = new Fields();
  readonly tail = new Live();

  private asked: Place = start;
  private notice_timer: ReturnType<typeof setTimeout> | undefined;
  private chart_timer: ReturnType<typeof setInterval> | undefined;

  /** The query that the rows on the screen answer. */
  get query(): string {
    return this.search.query;
  }

  /** True while an answer is awaited that the user can stop. */
  get running(): boolean {
    const waits = this.search.phase === 'running' || this.patterns.phase === 'running';
    return waits && !this.live;
  }

  begin(): void {
    history.replaceState(null, '', searchOf(this.asked));
    addEventListener('popstate', () => {
      const place = placeFromSearch(location.search);
      this.draft = place.query;
      this.range = place.range;
      this.live = place.live;
      this.view = place.view;
      const same = sameSearch(place, this.asked);
      this.asked = place;
      if (same) this.turn();
      else this.ask(place);
    });
    this.ask(this.asked);
  }

  /** Asks what the box and the range say. */
  run(): void {
    const query = this.draft.trim() === '' ? '*' : this.draft.trim();
    this.draft = query;
    const place: Place = { query, range: this.range, live: this.live, view: this.view };
    const same = sameSearch(place, this.asked) && place.view === this.asked.view;
    // Asking the same again is no step in the history.
    if (!same) history.pushState(null, '', searchOf(place));
    this.asked = place;
    this.ask(place);
  }

  setQuery(query: string): void {
    this.draft = query;
    this.run();
  }

  setRange(range: TimeRange): void {
    this.range = range;
    this.live = false;
    this.run();
  }

  toggleLive(): void {
    this.live = !this.live;
    if (this.live) this.view = 'rows';
    this.run();
  }

  /** Shows the records that were asked for in another way. */
  show(view: View): void {
    if (view === this.view) return;
    this.view = view;
    if (this.live) {
      // Patterns are counted, and what is followed has no end.
      this.live = false;
      this.run();
      return;
    }
    this.asked = { ...this.asked, view };
    history.pushState(null, '', searchOf(this.asked));
    this.turn();
  }

  /** Narrows the search to the records of one pattern and shows them. */
  narrow(pattern: string): void {
    const { text, whole } = patternClause(pattern);
    this.view = 'rows';
    // A table of results would show none of the records.
    const query = isTable(this.draft) ? matching(this.draft) : this.draft;
    this.setQuery(addClause(query, text));
    if (!whole) this.tell('A long pattern: these are all rows that begin like it');
  }

  cancel(): void {
    this.search.cancel();
    this.patterns.cancel();
  }

  /** Narrows the query by a clause; a clause that is already there is taken out again. */
  toggleClause(clause: string): void {
    const query = this.draft.trim() === '' ? '*' : this.draft;
    this.setQuery(
      hasClause(query, clause) ? removeClause(query, clause) : addClause(query, clause),
    );
  }

  filter(clause: string, exclude = false): void {
    this.setQuery(addClause(this.draft, clause, exclude));
  }

  /** A link that shows the same records tomorrow: with fixed times. */
  link(): string {
    const { bounds } = this.search;
    const range: TimeRange =
      this.live || bounds === null ? this.range : { kind: 'between', ...bounds };
    const place: Place = { query: this.search.query, range, live: this.live, view: this.view };
    return `${location.origin}${location.pathname}${searchOf(place)}`;
  }

  async copy(text: string, what: string): Promise<void> {
    this.tell((await copied(text)) ? `Copied ${what}` : 'The browser did not let this page copy');
  }

  tell(notice: string): void {
    clearTimeout(this.notice_timer);
    this.notice = notice;
    this.notice_timer = setTimeout(() => (this.notice = ''), 2500);
  }

  /** Asks what the view needs and the search on the screen has not answered yet. */
  private turn(): void {
    const { phase } = this.patterns;
    if (this.view === 'patterns') {
      if (phase !== 'done') void this.patterns.load(this.search.query, this.search.bounds);
    } else if (phase === 'running') this.patterns.drop();
  }

  private ask(place: Place): void {
    clearInterval(this.chart_timer);
    this.patterns.drop();
    document.title = place.query === '*' ? 'Lodge' : `${place.query.slice(0, 80)} · Lodge`;
    if (place.live) {
      this.search.reset(place.query);
      this.tail.start(place.query);
      const chart = async () => {
        const end_ms = Date.now();
        await this.search.follow(place.query, { start_ms: end_ms - LIVE_CHART_MS, end_ms });
        // The fields are those of the first records that came: a list that moves is no help.
        if (this.live && this.fields.names.length === 0) {
          await this.fields.load(place.query, this.search.bounds);
        }
      };
      this.fields.names = [];
      void chart();
      this.chart_timer = setInterval(() => void chart(), LIVE_CHART_EVERY_MS);
      return;
    }
    this.tail.stop();
    void this.search.run(place.query, place.range);
    this.turn();
    void this.fields.load(place.query, this.search.bounds);
  }
}

async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No clipboard API outside of secure contexts: the old way still works there.
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'visually-hidden';
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

export const page = new Page();
