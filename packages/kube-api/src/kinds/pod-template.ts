import { isDeepStrictEqual } from 'node:util'
import { raiseGeneration } from '../meta-rules.ts'
import type { KubeObject, ObjectMeta } from '../object.ts'
import type { Resource } from '../resource.ts'
import { dns1123SubdomainErrors } from '../validation/names.ts'
import { builtInResource, column, nameColumn, nameOf } from './built-in-resource.ts'
import { labelsText } from './label-text.ts'
import { mergeSchemas } from './merge-schemas.ts'
import { setPodSpecDefaults } from './pod-defaults.ts'
import { podTemplateCauses } from './pod-spec-causes.ts'
import type { PodSpec } from './pod-types.ts'

interface Template { metadata?: ObjectMeta, spec?: PodSpec }

const templateOf = (object: KubeObject): Template => object['template'] ?? {}

function setDefaults(object: KubeObject): void {
  const template = templateOf(object)
  object['template'] = template
  // Go writes it of every metadata, also of one that is not an object's.
  template.metadata = { creationTimestamp: null, ...template.metadata }
  template.spec ??= {}
  setPodSpecDefaults(template.spec)
}

export const podTemplates = (): Resource => builtInResource({
  plural: 'podtemplates', singular: 'podtemplate', kind: 'PodTemplate', namespaced: true, nameErrors: dns1123SubdomainErrors,
  columns: [
    nameColumn, column('Containers', 'Names of each container in the template.'),
    column('Images', 'Images referenced by each container in the template.'), column('Pod Labels', 'The labels for the pod template.')
  ],
  cells: object => {
    const { metadata = {}, spec = {} } = templateOf(object)
    const { containers = [] } = spec
    return [
      nameOf(object), containers.map(({ name }) => name ?? '').join(','), containers.map(({ image }) => image ?? '').join(','),
      labelsText(metadata.labels)
    ]
  },
  setDefaults,
  prepareForCreate: object => { object.metadata.generation = 1 },
  prepareForUpdate: (next, current) => raiseGeneration(next, current, !isDeepStrictEqual(next['template'], current['template'])),
  causes: object => podTemplateCauses(templateOf(object), 'template'),
  mergeSchema: mergeSchemas.PodTemplate
})
