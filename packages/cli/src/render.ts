export interface Column {
  readonly title: string
  /** Numbers go to the right, so that their digits stand below each other. Default left. */
  readonly align?: 'left' | 'right'
}

/** A table for people: two spaces between columns, no line ends in spaces, a newline behind every line. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map(({ title }, i) => Math.max(...[title, ...rows.map(row => row[i] ?? '')].map(textWidth)))
  const line = (cells: readonly string[]): string => columns
    .map(({ align }, i) => padded(cells[i] ?? '', widths[i]!, align ?? 'left')).join('  ').trimEnd() + '\n'
  return [columns.map(({ title }) => title), ...rows].map(line).join('')
}

/** Filled up with spaces to a width; longer text is left as it is. */
export function padded(text: string, width: number, align: 'left' | 'right'): string {
  const fill = ' '.repeat(Math.max(0, width - textWidth(text)))
  return align === 'right' ? fill + text : text + fill
}

/** Code points, near enough to columns of a terminal for names and numbers. */
const textWidth = (text: string): number => Array.from(text).length

/** `1,234,567`. */
export const formatCount = (count: number): string => String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ',')

const sizeUnits = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** `512 B`, `1.5 KiB`, `24 MiB`: two digits at least, for people. */
export function formatSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`
  let value = bytes / 1024
  let unit = 0
  // Rounding must not show 1024 of a unit.
  while (Math.round(value) >= 1024 && unit < sizeUnits.length - 1) {
    value /= 1024
    unit++
  }
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${sizeUnits[unit]!}`
}

const ageUnits = [['d', 86_400_000], ['h', 3_600_000], ['min', 60_000], ['s', 1000]] as const

/** `now`, `12 s`, `5 min`, `3 h`, `2 d`, rounded down. */
export function formatAge(ageMs: number): string {
  const unit = ageUnits.find(([, size]) => ageMs >= size)
  return unit === undefined ? 'now' : `${Math.floor(ageMs / unit[1])} ${unit[0]}`
}

/** One lane of one node, as `GET /v1/nodes` gives it: its newest epoch, and totals over all of them. */
export interface NodeLane {
  readonly lane: string
  readonly epoch: string
  readonly nextOffset: number
  readonly records: number
  readonly bytes: number
  readonly gaps: number
}

/** One node, as `GET /v1/nodes` gives it. */
export interface NodeStatus {
  readonly name: string
  readonly connected: boolean
  readonly lastSeen: string | null
  readonly lanes: readonly NodeLane[]
}

/** A line for each lane of each node. `ageMs` gives the age of an RFC 3339 timestamp. */
export function renderNodes(nodes: readonly NodeStatus[], ageMs: (timestamp: string) => number): string {
  const rows = nodes.flatMap(node => {
    const head = [node.name, node.connected ? 'connected' : 'offline', lastSeen(node, ageMs)]
    if (node.lanes.length === 0) return [[...head, '-', '-', '-', '-']]
    return node.lanes.map(({ lane, records, bytes, gaps }) =>
      [...head, lane, formatCount(records), formatSize(bytes), formatCount(gaps)])
  })
  return renderTable([
    { title: 'NODE' }, { title: 'LINK' }, { title: 'LAST SEEN' }, { title: 'LANE' },
    { title: 'RECORDS', align: 'right' }, { title: 'SIZE', align: 'right' }, { title: 'GAPS', align: 'right' }
  ], rows)
}

function lastSeen(node: NodeStatus, ageMs: (timestamp: string) => number): string {
  if (node.connected) return 'now'
  if (node.lastSeen === null) return 'before the cloud\'s start'
  return `${formatAge(ageMs(node.lastSeen))} ago`.replace('now ago', 'just now')
}

interface LineHead { readonly node: string, readonly epoch: string, readonly lane: string, readonly cursor: string }

interface RecordFields extends LineHead {
  readonly offset: number
  readonly timestamp: string
  readonly device: string
  readonly topic: string
  /** Base64. */
  readonly payload: string
}

interface GapFields extends LineHead {
  readonly gap: { readonly first: number, readonly last: number, readonly records: number, readonly reason: string }
}

/** One line of `GET /v1/records`: a record, or a gap. */
export type RecordLine = RecordFields | GapFields

/**
 * Lines for people of a stream whose end is not known: columns grow with what they have held. Shows the node and the
 * lane where the reader did not choose them.
 */
export class RecordTable {
  readonly #columns: readonly (Column & { readonly of: (record: RecordFields) => string })[]
  readonly #widths: number[]
  #headed = false

  constructor(show: { readonly node: boolean, readonly lane: boolean }) {
    this.#columns = [
      { title: 'TIME', of: record => record.timestamp },
      ...show.node ? [{ title: 'NODE', of: (record: RecordLine) => record.node }] : [],
      ...show.lane ? [{ title: 'LANE', of: (record: RecordLine) => record.lane }] : [],
      { title: 'OFFSET', align: 'right', of: record => String(record.offset) },
      { title: 'DEVICE', of: record => record.device },
      { title: 'PAYLOAD', of: record => payloadText(Buffer.from(record.payload, 'base64')) }
    ]
    this.#widths = this.#columns.map(({ title }) => title.length)
  }

  /** The lines of one record or gap, the heading before the first. */
  lines(item: RecordLine): string {
    if ('gap' in item) {
      const { first, last, records, reason } = item.gap
      const count = records === 1 ? '1 record' : `${formatCount(records)} records`
      return `${this.#heading()}-- gap in ${item.node} ${item.lane}: offsets ${first} to ${last}, ${count}: ${reason}\n`
    }
    const cells = this.#columns.map(column => column.of(item))
    cells.slice(0, -1).forEach((cell, i) => { this.#widths[i] = Math.max(this.#widths[i]!, textWidth(cell)) })
    return this.#heading() + this.#line(cells)
  }

  #heading(): string {
    if (this.#headed) return ''
    this.#headed = true
    return this.#line(this.#columns.map(({ title }) => title))
  }

  #line(cells: readonly string[]): string {
    const last = cells.length - 1
    return cells.map((cell, i) => i === last ? cell : padded(cell, this.#widths[i]!, this.#columns[i]!.align ?? 'left'))
      .join('  ') + '\n'
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const shownBytes = 24

/**
 * A payload on one line that can do a terminal no harm: text where it is UTF-8 without control or invisible characters
 * (line ends and tabs are written as escapes), else its size and first bytes.
 */
export function payloadText(payload: Uint8Array): string {
  let text: string
  try {
    text = utf8.decode(payload)
  } catch {
    return binaryText(payload)
  }
  const shown = text.replace(/[\n\r\t]/g, char => char === '\n' ? '\\n' : char === '\r' ? '\\r' : '\\t')
  return /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(shown.replaceAll('\u200d', '')) ? binaryText(payload) : shown
}

function binaryText(payload: Uint8Array): string {
  const hex = Buffer.from(payload.subarray(0, shownBytes)).toString('hex')
  return `<${formatSize(payload.length)}: ${hex}${payload.length > shownBytes ? '…' : ''}>`
}
