// What stands in the address bar, so that the back button is the history and a link can be shared.

import { rangeFromParams, rangeToParams, type TimeRange } from '../time/range';

/** How the records that match are shown: one by one, or by what their messages have in common. */
export type View = 'rows' | 'patterns';

export type Place = { query: string; range: TimeRange; live: boolean; view: View };

export function placeFromSearch(search: string): Place {
  const params = new URLSearchParams(search);
  const query = params.get('q')?.trim() ?? '';
  const live = params.get('live') === '1';
  return {
    query: query === '' ? '*' : query,
    range: rangeFromParams(params),
    live,
    // What is followed live is rows.
    view: params.get('view') === 'patterns' && !live ? 'patterns' : 'rows',
  };
}

export function searchOf(place: Place): string {
  const params = new URLSearchParams({ q: place.query, ...rangeToParams(place.range) });
  if (place.live) params.set('live', '1');
  if (place.view !== 'rows') params.set('view', place.view);
  return `?${params.toString()}`;
}
