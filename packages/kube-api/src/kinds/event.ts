import type { Json, KubeObject } from '../object.ts'
import type { PrinterColumn, Resource } from '../resource.ts'
import type { StatusCause } from '../status-error.ts'
import { invalidValue, requiredValue } from '../validation/causes.ts'
import { qualifiedNameErrors, type NameCheck } from '../validation/names.ts'
import { builtInResource, column, nameColumn, nameOf, wideColumn } from './built-in-resource.ts'
import { mergeSchemas } from './merge-schemas.ts'
import { ageText } from './timestamps.ts'

interface Event {
  involvedObject?: {
    kind?: string, namespace?: string, name?: string, uid?: string, apiVersion?: string, resourceVersion?: string, fieldPath?: string
  }
  reason?: string
  message?: string
  source?: { component?: string, host?: string }
  firstTimestamp?: string | null
  lastTimestamp?: string | null
  eventTime?: string | null
  count?: number
  type?: string
  action?: string
  series?: { count?: number, lastObservedTime?: string }
  reportingComponent?: string
  reportingInstance?: string
}

const view = (object: KubeObject): Event => object as Event

/** Its name has to be a part of a path, and nothing more. */
const pathSegmentErrors: NameCheck = name => {
  if (name === '.' || name === '..') return [`may not be '${name}'`]
  return ['/', '%'].filter(character => name.includes(character)).map(character => `may not contain '${character}'`)
}

function setDefaults(object: KubeObject): void {
  const event = view(object)
  event.involvedObject ??= {}
  event.source ??= {}
  event.firstTimestamp ??= null
  event.lastTimestamp ??= null
  event.eventTime ??= null
  event.reportingComponent ??= ''
  event.reportingInstance ??= ''
}

const textMax = 128
const messageMax = 1024

/** Events of clients that give an eventTime follow the rules of events.k8s.io; older ones are taken as they are. */
function causes(object: KubeObject): StatusCause[] {
  const { involvedObject = {}, eventTime, reason = '', message = '', action = '', ...reporting } = view(object)
  const { reportingComponent = '', reportingInstance = '' } = reporting
  const namespace = object.metadata.namespace ?? ''
  const { namespace: involved = '' } = involvedObject
  const isCluster = involved === '' && namespace === 'default'
  const found = involved === namespace || isCluster
    ? []
    : [invalidValue('involvedObject.namespace', involved, 'does not match event.namespace')]
  if (eventTime === undefined || eventTime === null) return found
  return [
    ...found,
    ...reportingComponent === '' ? [requiredValue('reportingController')] : [],
    ...qualifiedNameErrors(reportingComponent).map(error => invalidValue('reportingController', reportingComponent, error)),
    ...boundedText(reportingInstance, 'reportingInstance'), ...boundedText(action, 'action'), ...boundedText(reason, 'reason'),
    ...message.length > messageMax ? [invalidValue('message', '', `can have at most ${messageMax} characters`)] : []
  ]
}

function boundedText(text: string, field: string): StatusCause[] {
  if (text === '') return [requiredValue(field)]
  return text.length > textMax ? [invalidValue(field, '', `can have at most ${textMax} characters`)] : []
}

const firstGiven = (...texts: (string | undefined)[]): string => texts.find(text => text !== undefined && text !== '') ?? ''

function cells(object: KubeObject, nowMs: number): Json[] {
  const event = view(object)
  const { involvedObject: { kind = '', name = '', fieldPath = '' } = {}, source = {}, series } = event
  const firstSeen = ageText(event.firstTimestamp ?? event.eventTime, nowMs)
  const lastSeen = series !== undefined
    ? ageText(series.lastObservedTime, nowMs)
    : event.lastTimestamp === null || event.lastTimestamp === undefined ? firstSeen : ageText(event.lastTimestamp, nowMs)
  const count = series !== undefined ? series.count ?? 0 : event.count ?? 1
  const component = firstGiven(source.component, event.reportingComponent)
  const instance = firstGiven(source.host, event.reportingInstance)
  return [
    lastSeen, event.type ?? '', event.reason ?? '', name === '' ? kind.toLowerCase() : `${kind.toLowerCase()}/${name}`, fieldPath,
    instance === '' ? component : `${component}, ${instance}`, (event.message ?? '').trim(), firstSeen, count, nameOf(object)
  ]
}

const columns: readonly PrinterColumn[] = [
  column('Last Seen', 'The time at which the most recent occurrence of this event was recorded.'),
  column('Type', 'Type of this event (Normal, Warning), new types could be added in the future'),
  column('Reason', 'This should be a short, machine understandable string that gives the reason for the transition into the object\'s '
    + 'current status.'),
  column('Object', 'The object that this event is about.'),
  wideColumn('Subobject', 'If referring to a piece of an object instead of an entire object, this is its path.'),
  wideColumn('Source', 'The component reporting this event. Should be a short machine understandable string.'),
  column('Message', 'A human-readable description of the status of this operation.'),
  wideColumn('First Seen', 'The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)'),
  wideColumn('Count', 'The number of times this event has occurred.'),
  { ...nameColumn, priority: 1 }
]

export const events = (): Resource => builtInResource({
  plural: 'events', singular: 'event', kind: 'Event', shortNames: ['ev'], namespaced: true, nameErrors: pathSegmentErrors,
  allowsCreateOnUpdate: true, columns, cells, setDefaults, causes,
  selectableFields: object => {
    const { involvedObject = {}, reason = '', reportingComponent = '', source, type = '' } = view(object)
    const { kind = '', namespace = '', name = '', uid = '', apiVersion = '', resourceVersion = '', fieldPath = '' } = involvedObject
    return {
      'involvedObject.kind': kind, 'involvedObject.namespace': namespace, 'involvedObject.name': name, 'involvedObject.uid': uid,
      'involvedObject.apiVersion': apiVersion, 'involvedObject.resourceVersion': resourceVersion, 'involvedObject.fieldPath': fieldPath,
      reason, reportingComponent, source: firstGiven(source?.component, reportingComponent), type
    }
  },
  mergeSchema: mergeSchemas.Event
})
