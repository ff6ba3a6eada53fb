/** Wall time as RFC 3339 text in UTC, with milliseconds. */
export function formatTimestamp(wallMs: number): string {
  return new Date(wallMs).toISOString()
}
