import type { Json, JsonObject, KubeObject } from '../../object.ts'
import { customResourceDefinitions } from '../crd-resource.ts'
import { nextStep } from '../crd-lifecycle.ts'
import { customResource } from '../custom-resource.ts'
import { specOf } from '../definition.ts'
import type { Resource } from '../../resource.ts'

/** 2026-11-21T11:00:00Z */
export const nowMs = 1_795_258_800_000

const definitions = customResourceDefinitions(['', 'coordination.k8s.io'])

/** The document of a definition of Widgets with one version `v1`, whose `spec` has this schema. */
export function widgetDocument(specSchema: JsonObject, version: JsonObject = {}, spec: JsonObject = {}): JsonObject {
  return {
    apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: 'widgets.example.com' },
    spec: {
      group: 'example.com', scope: 'Namespaced', names: { plural: 'widgets', kind: 'Widget' },
      versions: [{
        name: 'v1', served: true, storage: true,
        schema: { openAPIV3Schema: { type: 'object', properties: { spec: specSchema, status: { type: 'object', properties: { phase: { type: 'string' } } } } } },
        ...version
      }],
      ...spec
    }
  }
}

/** A definition as a create makes it, and what is wrong with it. */
export function created(document: Json): { readonly definition: KubeObject, readonly causes: readonly string[], readonly warnings: readonly string[] } {
  const { object, warnings } = definitions.decode(document, 'Strict')
  definitions.prepareForCreate(object)
  const causes = definitions.validate(object, undefined)
  return { definition: object, causes: causes.map(({ field, message }) => `${field}: ${message}`), warnings }
}

/** The same for an update. */
export function updated(definition: KubeObject, document: Json): { readonly definition: KubeObject, readonly causes: readonly string[] } {
  const { object } = definitions.decode(document, 'Strict')
  object.metadata.resourceVersion = '1'
  definitions.prepareForUpdate(object, definition, undefined)
  const causes = definitions.validate(object, definition)
  return { definition: object, causes: [...new Set(causes.map(({ field, message }) => `${field}: ${message}`))] }
}

/** Steps on until nothing is left to do. */
export function settled(definition: KubeObject, others: readonly KubeObject[] = []): KubeObject {
  let current = definition
  for (;;) {
    const step = nextStep(current, others, nowMs)
    if (step === undefined) return current
    current = step.object
  }
}

/** The resource of Widgets, established; the definition has to be right. */
export function widgets(specSchema: JsonObject, version: JsonObject = {}): Resource {
  const { definition, causes } = created(widgetDocument(specSchema, version))
  if (causes.length > 0) throw new Error(causes.join('\n'))
  const established = settled(definition)
  return customResource(established, specOf(established).versions![0]!)
}

/** A Widget with this spec, as a create makes it, and what is wrong with it. */
export function widget(resource: Resource, spec: Json, more: JsonObject = {}): { readonly object: KubeObject, readonly causes: readonly string[] } {
  const document = { apiVersion: 'example.com/v1', kind: 'Widget', metadata: { name: 'w', namespace: 'default' }, spec, ...more }
  const { object } = resource.decode(document, 'Ignore')
  resource.prepareForCreate(object)
  return { object, causes: resource.validate(object, undefined).map(({ field, message }) => `${field}: ${message}`) }
}
