import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { KubeObject } from '../object.ts'
import { nextStep } from './crd-lifecycle.ts'
import { isEstablished, statusOf } from './definition.ts'
import { created, nowMs, widgetDocument } from './testing/definitions.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 300), ...process.env['SEED'] === undefined ? {} : { seed: Number(process.env['SEED']) } }
const word = fc.constantFrom('a', 'b', 'c', 'd')

/** Somebody writes or removes a definition, or the server takes one step with one of them. */
const acts = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), plural: word, singular: word, shortName: word, kindName: fc.constantFrom('A', 'B', 'C') }),
  fc.record({ kind: fc.constant('remove' as const), plural: word }),
  fc.record({ kind: fc.constant('step' as const), plural: word })
)

const namesOf = (definition: KubeObject): string[] => {
  const { plural = '', singular = '', shortNames = [], kind = '', listKind = '' } = statusOf(definition).acceptedNames
  // Kinds and resources do not meet. One definition may say a name twice.
  return [...new Set([plural, singular, ...shortNames].map(name => `resource ${name}`).concat(kind, listKind))].filter(name => !/^(resource )?$/.test(name))
}

test('no name is given twice, and in the end everybody has what nobody else has', () => {
  fc.assert(fc.property(fc.array(acts, { maxLength: 30 }), given => {
    const definitions = new Map<string, KubeObject>()
    const step = (plural: string): boolean => {
      const definition = definitions.get(plural)
      const next = definition === undefined ? undefined : nextStep(definition, definitions.values(), nowMs)
      if (next === undefined) return false
      definitions.set(plural, next.object)
      return true
    }
    const taken = (): string[] => [...definitions.values()].flatMap(namesOf)
    for (const act of given) {
      if (act.kind === 'step') step(act.plural)
      else if (act.kind === 'remove') definitions.delete(act.plural)
      else {
        const names = { plural: act.plural, singular: act.singular, kind: act.kindName, shortNames: [act.shortName] }
        const { definition } = created({ ...widgetDocument({ type: 'object' }, {}, { names }), metadata: { name: `${act.plural}.example.com` } })
        const before = definitions.get(act.plural)
        definitions.set(act.plural, before === undefined ? definition : { ...before, spec: definition['spec'] })
      }
      expect(new Set(taken()).size).toBe(taken().length)
    }
    let steps = 0
    while ([...definitions.keys()].some(step)) expect(++steps).toBeLessThan(100)
    expect(new Set(taken()).size).toBe(taken().length)
    for (const [plural, definition] of definitions) {
      const { names } = definition['spec'] as { names: Record<string, string | string[]> }
      const wanted = [names['plural'], names['singular'], ...names['shortNames'] as string[]].map(name => `resource ${name as string}`)
        .concat(names['kind'] as string, names['listKind'] as string)
      const others = new Set([...definitions].flatMap(([name, other]) => name === plural ? [] : namesOf(other)))
      if (!wanted.some(name => others.has(name))) expect([plural, isEstablished(definition)]).toEqual([plural, true])
    }
  }), runs)
})
