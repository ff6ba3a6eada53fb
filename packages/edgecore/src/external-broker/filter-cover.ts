/** Whether every topic that matches `filter` matches `by` as well. */
export function isCovered(filter: string, by: string): boolean {
  const levels = filter.split('/')
  const covering = by.split('/')
  // [MQTT-4.7.2-1]
  if (levels[0]!.startsWith('$') && (covering[0] === '#' || covering[0] === '+')) return false
  for (const [i, level] of covering.entries()) {
    if (level === '#') return true
    if (i >= levels.length || levels[i] === '#') return false
    if (level !== '+' && level !== levels[i]) return false
  }
  return covering.length === levels.length
}

/**
 * The fewest of `filters` that match the same topics: a broker may send a message once for each filter that matches it
 * [MQTT-3.3.5-1]. Filters that overlap in part both stay.
 */
export function broadest(filters: Iterable<string>): Set<string> {
  const all = [...new Set(filters)]
  const wild = all.filter(filter => filter.includes('+') || filter.includes('#'))
  return new Set(all.filter(filter => !wild.some(by => by !== filter && isCovered(filter, by))))
}
