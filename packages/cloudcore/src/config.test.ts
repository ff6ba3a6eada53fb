import { describeSettings, loadConfig, printConfig } from '@holdfast/runtime'
import { expect, test } from 'vitest'
import { cloudcoreSchema } from './config.ts'

test('what is printed loads as the same configuration', async () => {
  const config = await loadConfig(cloudcoreSchema, { sets: ['serverNames.0=cloud.example', 'retention.ageMax=90d'] })
  const text = await printConfig(cloudcoreSchema, config)
  expect(await loadConfig(cloudcoreSchema, { file: { path: 'a.yaml', text } })).toEqual(config)
})

const problemOf = (...sets: string[]): Promise<string> =>
  loadConfig(cloudcoreSchema, { sets }).then(() => '', (error: unknown) => (error as Error).message)

test.each(['a..b', '-', 'https://cloud.example', 'cloud.example:10002', '1.2.3.4.5:', '*'])('no server is called %s', async name => {
  expect(await problemOf(`serverNames=[a.example, "${name}"]`)).toContain('serverNames.1: expected a DNS name or an IP address')
})

test('a server has as many names as the page of limits says', async () => {
  const names = (count: number): string => `serverNames=[${Array.from({ length: count }, (_, i) => `n${i}.example`).join(', ')}]`
  expect(await problemOf(names(64))).toBe('')
  expect(await problemOf(names(65))).toContain('serverNames: expected a list of at most 64 entries')
})

test('nodes are told a URL that they can dial', async () => {
  expect(await problemOf('publicUrl="wss://a:999999"')).toContain('publicUrl: expected a URL such as')
  expect(await problemOf('publicUrl="wss://a"')).toBe('')
  expect(await problemOf('publicUrl="wss://[::1]:10000/"')).toBe('')
})

test('a kubeconfig is that of a cluster', async () => {
  expect(await problemOf('kube.kubeconfig=/etc/kubeconfig')).toContain('kube.kubeconfig: expected kube.mode=cluster with it')
  expect(await problemOf('kube.kubeconfig=/etc/kubeconfig', 'kube.mode=cluster')).toBe('')
  expect(await problemOf('kube.kubeconfig=/etc/kubeconfig', 'kube.mode=none')).toBe('')
  expect(await problemOf('kube.mode=clustr')).toContain('kube.mode: expected one of embedded, cluster, none')
})

test('every setting has a description and bounds', () => {
  for (const { path, description, bounds } of describeSettings(cloudcoreSchema)) {
    expect([path, description]).toEqual([path, expect.stringMatching(/\.$/)])
    expect([path, bounds]).not.toEqual([path, ''])
  }
})
