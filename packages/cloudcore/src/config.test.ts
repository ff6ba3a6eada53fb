import { describeSettings, loadConfig, printConfig } from '@holdfast/runtime'
import { expect, test } from 'vitest'
import { cloudcoreSchema } from './config.ts'

test('what is printed loads as the same configuration', async () => {
  const config = await loadConfig(cloudcoreSchema, { sets: ['serverNames.0=cloud.example', 'retention.ageMax=90d'] })
  const text = await printConfig(cloudcoreSchema, config)
  expect(await loadConfig(cloudcoreSchema, { file: { path: 'a.yaml', text } })).toEqual(config)
})

test('every setting has a description and bounds', () => {
  for (const { path, description, bounds } of describeSettings(cloudcoreSchema)) {
    expect([path, description]).toEqual([path, expect.stringMatching(/\.$/)])
    expect([path, bounds]).not.toEqual([path, ''])
  }
})
