import { formatAge, padded, payloadText, renderTable } from './render.ts'

/** One side of a property. In the cloud values are text, as Kubernetes has them. */
export interface TwinEntry {
  readonly value: unknown
  /** Null where it is not known: reported values in the cloud, and desired ones that cloudcore has not taken over yet. */
  readonly version: string | null
  /** RFC 3339. */
  readonly timestamp: string | null
  /** `cloud` or a node. */
  readonly writer: string | null
}

export interface TwinProperty {
  readonly desired?: TwinEntry
  readonly reported?: TwinEntry
  /** Whether the device does as desired, or why not. Empty where nothing is desired. */
  readonly sync: string
}

/** A condition of the Device: what cloudcore says of it. */
export interface DeviceCondition {
  readonly type: string
  readonly status: string
  readonly reason: string
  readonly message: string
  /** RFC 3339, or empty. */
  readonly since: string
  /** Of the Device that it was said of; 0 where that is not known. */
  readonly observedGeneration: number
}

/** A device and its twin, wherever it was asked. */
export interface TwinView {
  /** `<namespace>/<name>` */
  readonly device: string
  /** Of the Device; null on the node itself, or where it has none. */
  readonly node: string | null
  readonly model: string | null
  readonly state: string | null
  readonly lastOnlineTime: string | null
  /** Null: not known. */
  readonly inDesiredState: boolean | null
  /** What keeps the node from serving the device; null: nothing, or the conditions say it. */
  readonly trouble: string | null
  /** Empty on the node. */
  readonly conditions: readonly DeviceCondition[]
  readonly properties: Readonly<Record<string, TwinProperty>>
}

/** A device in a list. Null: not known, or not there. */
export interface DeviceRow {
  readonly device: string
  readonly node: string | null
  readonly model: string | null
  readonly state: string | null
  readonly lastOnlineTime: string | null
  /** The state is what the node said last, and it is away. */
  readonly isNodeAway: boolean
  /** Whether the node has what is desired: `yes`, or why not. Null on the node. */
  readonly synced: string | null
  /** Whether the device does as desired: `yes`, or why not. */
  readonly inDesiredState: string | null
  /** RFC 3339. */
  readonly created: string | null
}

type AgeMs = (timestamp: string) => number

export function renderDevices(rows: readonly DeviceRow[], place: 'cloud' | 'edge', ageMs: AgeMs): string {
  const columns = [
    { title: 'DEVICE', of: (row: DeviceRow) => row.device },
    ...place === 'edge' ? [] : [{ title: 'NODE', of: (row: DeviceRow) => row.node }],
    { title: 'MODEL', of: (row: DeviceRow) => row.model },
    { title: 'STATE', of: (row: DeviceRow) => row.isNodeAway && row.state !== null ? `${row.state}, node away` : row.state },
    ...place === 'edge' ? [] : [{ title: 'SYNCED', of: (row: DeviceRow) => row.synced }],
    { title: 'IN DESIRED STATE', of: (row: DeviceRow) => row.inDesiredState },
    { title: 'AGE', of: (row: DeviceRow) => row.created === null ? null : formatAge(ageMs(row.created)) }
  ]
  return renderTable(columns, rows.map(row => columns.map(({ of }) => cellText(of(row)))))
}

export function renderTwin(view: TwinView, ageMs: AgeMs): string {
  const heads = [
    ['device', view.device],
    ...view.node === null ? [] : [['node', view.node]],
    ['model', view.model ?? '-'],
    ['state', stateText(view, ageMs)],
    ...view.conditions.length > 0 ? view.conditions.map(condition => [condition.type, conditionText(condition, ageMs)])
      : [['in desired state', view.inDesiredState === null ? 'not known' : view.inDesiredState ? 'yes' : 'no']],
    ...view.trouble === null ? [] : [['trouble', cellText(view.trouble)]]
  ]
  const width = Math.max(...heads.map(([name]) => name!.length))
  const head = heads.map(([name, text]) => `${padded(name!, width, 'left')}  ${text}\n`).join('')
  const rows = Object.entries(view.properties).flatMap(([name, property]) => propertyRows(name, property, ageMs))
  if (rows.length === 0) return `${head}\nno properties yet\n`
  const columns = ['PROPERTY', 'SECTION', 'VALUE', 'WRITER', 'WRITTEN', 'VERSION', 'IN SYNC'].map(title => ({ title }))
  return `${head}\n${renderTable(columns, rows)}`
}

function propertyRows(name: string, { desired, reported, sync }: TwinProperty, ageMs: AgeMs): string[][] {
  const sides = [['desired', desired], ['reported', reported]] as const
  return sides.filter(([, entry]) => entry !== undefined).map(([section, entry], i) => [
    i === 0 ? cellText(name) : '', section, valueText(entry!.value), cellText(entry!.writer), agoText(entry!.timestamp, ageMs),
    entry!.version ?? '-', i === 0 ? sync : ''
  ])
}

/** What is different, a line each; empty where nothing that is shown is. */
export function twinChanges(before: TwinView, after: TwinView): string[] {
  const lines: string[] = []
  if (before.state !== after.state) lines.push(`state ${after.state ?? 'none'}`)
  for (const condition of after.conditions) {
    const was = before.conditions.find(({ type }) => type === condition.type)
    if (was?.status !== condition.status || was.reason !== condition.reason) lines.push(`${condition.type} ${saying(condition)}`)
  }
  for (const name of new Set([...Object.keys(before.properties), ...Object.keys(after.properties)])) {
    const [was, is] = [own(before.properties, name), own(after.properties, name)]
    for (const section of ['desired', 'reported'] as const) {
      const [a, b] = [was?.[section], is?.[section]]
      if (a === undefined && b === undefined) continue
      const moved = a?.version !== b?.version || a?.timestamp !== b?.timestamp || valueText(a?.value) !== valueText(b?.value)
      if (!moved) continue
      const by = typeof b?.writer === 'string' ? `  by ${cellText(b.writer)}` : ''
      lines.push(`${cellText(name)}  ${section}  ${b === undefined ? 'gone' : valueText(b.value) + by}`)
    }
    if (is !== undefined && is.sync !== '' && was?.sync !== is.sync) lines.push(`${cellText(name)}  in sync: ${is.sync}`)
  }
  return lines
}

const own = <T>(record: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(record, name) ? record[name] : undefined

const shownLength = 60

/** A value on one line that can do a terminal no harm: text as it is, everything else as JSON. */
export function valueText(value: unknown): string {
  if (value === undefined) return ''
  const text = payloadText(Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)))
  if (text === '') return '""'
  const points = Array.from(text)
  return points.length > shownLength ? `${points.slice(0, shownLength - 1).join('')}…` : text
}

const cellText = (text: string | null): string => text === null || text === '' ? '-' : payloadText(Buffer.from(text))

function stateText({ state, lastOnlineTime }: TwinView, ageMs: AgeMs): string {
  const word = state === 'online' || state === 'ok' ? 'said' : 'last online'
  const online = lastOnlineTime === null ? '' : `, ${word} ${agoText(lastOnlineTime, ageMs)}`
  return (state === null ? 'not said yet' : cellText(state)) + online
}

const agoText = (timestamp: string | null, ageMs: AgeMs): string =>
  timestamp === null ? '-' : `${formatAge(ageMs(timestamp))} ago`.replace('now ago', 'now')

function saying({ status, reason, message }: DeviceCondition): string {
  const word = status === 'True' ? 'yes' : status === 'False' ? 'no' : 'not known'
  return cellText(`${word}, ${reason}${message === '' ? '' : `: ${message}`}`)
}

const conditionText = (condition: DeviceCondition, ageMs: AgeMs): string =>
  saying(condition) + (condition.since === '' ? '' : ` (since ${agoText(condition.since, ageMs).replace(/ ago$/, '')})`)
