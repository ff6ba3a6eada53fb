import { describe, expect, test } from 'vitest'
import type { KubeObject } from '../object.ts'
import { markDeleted, nextStep, removalStep } from './crd-lifecycle.ts'
import { conditionOf, isEstablished, statusOf } from './definition.ts'
import { created, nowMs, settled, widgetDocument } from './testing/definitions.ts'

function definition(name: string, names: Record<string, string | string[]>, group = 'example.com'): KubeObject {
  const document = widgetDocument({ type: 'object' }, {}, { group, names })
  const { definition: made, causes } = created({ ...document, metadata: { name } })
  expect(causes).toEqual([])
  return made
}

const widgets = (): KubeObject => definition('widgets.example.com', { plural: 'widgets', kind: 'Widget', shortNames: ['wi'], categories: ['all'] })
const texts = (object: KubeObject): (string | undefined)[] => (['NamesAccepted', 'Established', 'Terminating'] as const).map(type => {
  const condition = conditionOf(object, type)
  return condition === undefined ? undefined : `${condition.status} ${condition.reason}`
})

describe('the names of a definition', () => {
  test('are accepted, then it is established, then nothing more is done', () => {
    const first = nextStep(widgets(), [], nowMs)!.object
    expect(texts(first)).toEqual(['True NoConflicts', 'False Installing', undefined])
    expect(statusOf(first).acceptedNames).toEqual(
      { plural: 'widgets', singular: 'widget', shortNames: ['wi'], kind: 'Widget', listKind: 'WidgetList', categories: ['all'] })
    const second = nextStep(first, [first], nowMs)!.object
    expect(texts(second)).toEqual(['True NoConflicts', 'True InitialNamesAccepted', undefined])
    expect(nextStep(second, [second], nowMs + 60_000)).toBeUndefined()
  })

  test.each<[string, Record<string, string | string[]>, string, string]>([
    ['kind', { plural: 'wodgets', singular: 'wodget', kind: 'Widget', listKind: 'Wodgets' }, 'KindConflict', '"Widget" is already in use'],
    ['list kind', { plural: 'wodgets', singular: 'wodget', kind: 'WidgetList', listKind: 'Wodgets' }, 'KindConflict', '"WidgetList" is already in use'],
    ['singular', { plural: 'wodgets', singular: 'widget', kind: 'Wodget' }, 'SingularConflict', '"widget" is already in use'],
    ['short name', { plural: 'wodgets', kind: 'Wodget', shortNames: ['wo', 'wi'] }, 'ShortNamesConflict', '"wi" is already in use']
  ])('are refused where another one of the group has the %s', (_what, names, reason, message) => {
    const taken = settled(widgets())
    const refused = settled(definition('wodgets.example.com', names), [taken])
    expect(texts(refused)).toEqual([`False ${reason}`, 'False NotAccepted', undefined])
    expect(conditionOf(refused, 'NamesAccepted')!.message).toBe(message)
    expect(isEstablished(settled(refused, [taken]))).toBe(false)
    // Once they are given back, it gets them.
    expect(texts(settled(refused, []))).toEqual(['True NoConflicts', 'True InitialNamesAccepted', undefined])
  })

  test('of another group are no matter', () => {
    const other = definition('wodgets.example.org', { plural: 'wodgets', kind: 'Widget' }, 'example.org')
    expect(isEstablished(settled(other, [settled(widgets())]))).toBe(true)
  })

  test('keep an established definition established when a later change is refused', () => {
    const [first, other] = [settled(widgets()), settled(definition('wodgets.example.com', { plural: 'wodgets', kind: 'Wodget', shortNames: ['wo'] }))]
    const spec = { ...other['spec'] as object, names: { plural: 'wodgets', singular: 'wodget', kind: 'Wodget', listKind: 'WodgetList', shortNames: ['wi'] } }
    const changed = settled({ ...other, spec }, [first])
    expect(texts(changed)).toEqual(['False ShortNamesConflict', 'True InitialNamesAccepted', undefined])
    expect(statusOf(changed).acceptedNames.shortNames).toEqual(['wo'])
  })
})

describe('a definition that is deleted', () => {
  test('waits for its instances, then goes', () => {
    const marked = markDeleted(settled(widgets()), nowMs)
    expect(marked.metadata).toMatchObject({ deletionTimestamp: '2026-11-21T11:00:00Z', finalizers: ['customresourcecleanup.apiextensions.k8s.io'] })
    expect(texts(marked)[2]).toBe('True InstanceDeletionPending')
    const begun = removalStep(marked, 2, nowMs)
    if (begun.kind !== 'put') throw new Error(begun.kind)
    expect(texts(begun.object)[2]).toBe('True InstanceDeletionInProgress')
    expect(removalStep(begun.object, 2, nowMs).kind).toBe('delete-instances')
    const released = removalStep(begun.object, 0, nowMs)
    if (released.kind !== 'release') throw new Error(released.kind)
    expect(released.object.metadata.finalizers).toBeUndefined()
    expect(texts(released.object)[2]).toBe('False InstanceDeletionCompleted')
    expect(removalStep(released.object, 0, nowMs).kind).toBe('none')
  })

  test('leaves instances alone where it was never established: they are another one\'s', () => {
    const marked = markDeleted(widgets(), nowMs)
    const released = removalStep(marked, 5, nowMs)
    expect(released.kind).toBe('release')
    expect(texts((released as { object: KubeObject }).object)[2]).toBe('False NeverEstablished')
  })

  test('keeps the finalizers of others', () => {
    const marked = markDeleted({ ...settled(widgets()), metadata: { name: 'widgets.example.com', finalizers: ['example.com/mine'] } }, nowMs)
    const begun = removalStep(marked, 0, nowMs) as { object: KubeObject }
    const released = removalStep(begun.object, 0, nowMs) as { object: KubeObject }
    expect(released.object.metadata.finalizers).toEqual(['example.com/mine'])
  })

  test('is left alone while nobody deletes it', () => {
    expect(removalStep(settled(widgets()), 3, nowMs)).toEqual({ kind: 'none' })
  })
})
