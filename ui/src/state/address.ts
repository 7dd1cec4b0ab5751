// What stands in the address bar, so that the back button is the history and a link can be shared.

import { rangeFromParams, rangeToParams, type TimeRange } from '../time/range';

export type Place = { query: string; range: TimeRange; live: boolean };

export function placeFromSearch(search: string): Place {
  const params = new URLSearchParams(search);
  const query = params.get('q')?.trim() ?? '';
  return {
    query: query === '' ? '*' : query,
    range: rangeFromParams(params),
    live: params.get('live') === '1',
  };
}

export function searchOf(place: Place): string {
  const params = new URLSearchParams({ q: place.query, ...rangeToParams(place.range) });
  if (place.live) params.set('live', '1');
  return `?${params.toString()}`;
}
