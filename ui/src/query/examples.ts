// The cheat sheet: what one can ask, each as a query that runs when it is clicked.

export type Example = { query: string; means: string };

export const EXAMPLES: readonly { title: string; examples: readonly Example[] }[] = [
  {
    title: 'Words',
    examples: [
      { query: 'error', means: 'the word “error” in the message' },
      { query: '"connection refused"', means: 'a phrase' },
      { query: 'time*', means: 'a word that begins with “time”' },
      { query: 'error timeout', means: 'both words (a space is and)' },
      { query: 'error or warn', means: 'one of them' },
      { query: 'error -retry', means: 'one without the other' },
    ],
  },
  {
    title: 'Fields',
    examples: [
      { query: 'level:="error"', means: 'exactly this value' },
      { query: 'level:in("error", "warn")', means: 'one of these values' },
      { query: 'status:>=500', means: 'a number in a range' },
      { query: '_msg:~"timed? ?out"', means: 'a regular expression' },
      { query: 'trace_id:*', means: 'the field is there' },
      { query: '{service="checkout"}', means: 'one stream, by its labels: the fastest' },
    ],
  },
  {
    title: 'Time',
    examples: [
      { query: '_time:5m error', means: 'in the last five minutes' },
      { query: '_time:[2026-01-31T12:00:00Z, 2026-01-31T13:00:00Z]', means: 'between two moments' },
    ],
  },
  {
    title: 'Counting',
    examples: [
      { query: '* | stats by (level) count() as records', means: 'how many per level' },
      { query: '* | stats by (_time:1m) count() as records', means: 'how many per minute' },
      { query: 'error | top 10 by (service)', means: 'the ten commonest values' },
      { query: '* | stats count_uniq(trace_id) as traces', means: 'how many different ones' },
      {
        query: '* | stats by (service) quantile(0.99, duration_ms) as p99',
        means: 'the 99th percentile',
      },
      { query: '* | fields _time, service, _msg', means: 'these fields only' },
      { query: '* | sort by (duration_ms desc) | limit 20', means: 'the twenty slowest' },
    ],
  },
];
