// Only the rules that need types; everything else is biome's.
import tseslint from 'typescript-eslint';

export default [
  {
    files: ['src/**/*.ts', 'src/**/*.tsx', 'test/**/*.ts'],
    plugins: { '@typescript-eslint': tseslint.plugin },
    languageOptions: { parser: tseslint.parser, parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: ['tap', '@tapjs/core', '@tapjs/test'].map((name) => ({
            from: 'package',
            name: ['test', 'subtest'],
            package: name,
          })),
        },
      ],
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: false }],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/await-thenable': 'error',
    },
  },
];
