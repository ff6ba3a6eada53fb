import type { EndReason } from '@holdfast/sync'

/** `routine`: goes by itself, like every outage of a network. `trouble`: goes on until somebody does something. */
export type EndKind = 'routine' | 'trouble'

/** Refusals that pass without anybody's help. */
const passing = /^(STOPPING|SESSION_REPLACED|SESSION_STALE)\b/

/** What an end of a session, or of an attempt to begin one, asks of people. */
export function kindOfEnd(reason: EndReason, detail: string): EndKind {
  switch (reason) {
    case 'refused': return passing.test(detail) ? 'routine' : 'trouble'
    case 'protocol': return 'trouble'
    case 'closed': return /^LINK_[A-Z_]+: /.test(detail) ? 'trouble' : 'routine'
    default: return 'routine'
  }
}
