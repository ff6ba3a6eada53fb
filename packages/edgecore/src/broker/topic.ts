/** MQTT's topic rules, as far as aedes leaves them open. */

export interface TopicBounds {
  /** Longest topic or filter, UTF-16 code units. */
  readonly topicLengthMax: number
  readonly topicLevelsMax: number
}

export type TopicProblem = 'empty' | 'too-long' | 'too-many-levels' | 'wildcard' | 'bad-character' | 'reserved'

/** What keeps a client from publishing to `topic`, wills included; undefined where nothing does. */
export function topicProblem(topic: string, bounds: TopicBounds): TopicProblem | undefined {
  const problem = nameProblem(topic, bounds)
  if (problem !== undefined) return problem
  for (let i = 0; i < topic.length; i++) {
    const code = topic.charCodeAt(i)
    if (code === 35 || code === 43) return 'wildcard'
  }
  // $SYS is the broker's own; $share and $queue are filters of other protocol versions, never topics.
  return /^\$(SYS|share|queue)(\/|$)/.test(topic) ? 'reserved' : undefined
}

/** What keeps a client from subscribing to `filter`; undefined where nothing does. */
export function filterProblem(filter: string, bounds: TopicBounds): TopicProblem | undefined {
  const problem = nameProblem(filter, bounds)
  if (problem !== undefined) return problem
  // MQTT 3.1.1 has no shared subscriptions: granting one would be a promise that is not kept.
  if (/^\$(share|queue)(\/|$)/.test(filter)) return 'reserved'
  const levels = filter.split('/')
  for (let i = 0; i < levels.length; i++) {
    const level = levels[i]!
    if (level === '+' || (level === '#' && i === levels.length - 1)) continue
    if (level.includes('+') || level.includes('#')) return 'wildcard'
  }
  return undefined
}

/** [MQTT-4.7] */
export function filterMatches(filter: string, topic: string): boolean {
  if (filter === topic) return true
  if (topic.charCodeAt(0) === 36 && (filter.charCodeAt(0) === 35 || filter.charCodeAt(0) === 43)) return false
  let f = 0
  let t = 0
  while (f < filter.length) {
    const code = filter.charCodeAt(f)
    if (code === 35) return true
    if (code === 43) {
      while (t < topic.length && topic.charCodeAt(t) !== 47) t++
      f++
    } else {
      while (f < filter.length && filter.charCodeAt(f) !== 47) {
        if (t >= topic.length || filter.charCodeAt(f) !== topic.charCodeAt(t)) return false
        f++
        t++
      }
    }
    if (t < topic.length && topic.charCodeAt(t) !== 47) return false
    if (f >= filter.length) return t >= topic.length
    if (t >= topic.length) return filter.length === f + 2 && filter.charCodeAt(f + 1) === 35
    f++
    t++
  }
  return t >= topic.length
}

/** Client ids: printable, at most `lengthMax` UTF-16 code units, not empty. */
export function clientIdIsValid(id: string, lengthMax: number): boolean {
  return id.length > 0 && id.length <= lengthMax && !hasBadCharacter(id)
}

function nameProblem(name: string, bounds: TopicBounds): TopicProblem | undefined {
  if (name.length === 0) return 'empty'
  if (name.length > bounds.topicLengthMax) return 'too-long'
  let levels = 1
  for (let i = 0; i < name.length; i++) if (name.charCodeAt(i) === 47) levels++
  if (levels > bounds.topicLevelsMax) return 'too-many-levels'
  return hasBadCharacter(name) ? 'bad-character' : undefined
}

/**
 * Controls, NUL among them [MQTT-1.5.3-2], and U+FFFD: what ill-formed UTF-8 decodes to [MQTT-1.5.3-1].
 */
function hasBadCharacter(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < 32 || (code >= 127 && code < 160) || code === 0xfffd) return true
  }
  return false
}
