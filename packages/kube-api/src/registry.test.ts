import { expect, test } from 'vitest'
import { builtInResources } from './kinds/built-in-resources.ts'
import { Registry, compareVersions, type ServedResource } from './registry.ts'

const [first] = builtInResources()

function served(group: string, version: string, plural: string, storageVersion = 'v1'): ServedResource {
  return { resource: { ...first!, group, version, plural, kind: plural }, isCustom: true, storageVersion }
}

test('versions are in Kubernetes\' order', () => {
  expect(['v1alpha1', 'foo10', 'v2', 'v1beta2', 'v11alpha2', 'v10', 'v1beta1', 'foo1', 'v10beta3', 'v1'].toSorted(compareVersions))
    .toEqual(['v10', 'v2', 'v1', 'v10beta3', 'v1beta2', 'v1beta1', 'v11alpha2', 'v1alpha1', 'foo1', 'foo10'])
})

test('definitions add groups behind the built-in ones, and never replace a built-in resource', () => {
  const registry = new Registry(builtInResources())
  const before = registry.generation
  registry.setCustom([served('z.example', 'v1', 'zs'), served('a.example', 'v1beta1', 'as'), served('a.example', 'v1', 'as'),
    served('', 'v1', 'configmaps')])
  expect(registry.generation).toBeGreaterThan(before)
  expect(registry.groups.slice(-2).map(({ name, isCustom, versions }) => [name, isCustom, versions.map(({ version }) => version)]))
    .toEqual([['a.example', true, ['v1', 'v1beta1']], ['z.example', true, ['v1']]])
  expect(registry.find('', 'v1', 'configmaps')!.isCustom).toBe(false)
  expect(registry.findKind('z.example', 'zs')!.resource.plural).toBe('zs')
  expect(registry.stored().filter(({ isCustom }) => isCustom).map(({ resource }) => `${resource.group}/${resource.version}`))
    .toEqual(['a.example/v1', 'z.example/v1'])
  registry.setCustom([])
  expect(registry.group('a.example')).toBeUndefined()
  expect(registry.find('z.example', 'v1', 'zs')).toBeUndefined()
})
